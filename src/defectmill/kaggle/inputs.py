"""Where Kaggle put what was attached to a notebook: it is searched, for the layout has changed before."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from defectmill.config import ConfigError
from defectmill.dataset_info import ATTACHED

DEEPEST = 5  # folders below /kaggle/input that are looked into


def attached_folder() -> Path:
    """Folder of everything that is attached: /kaggle/input, or what a test names instead."""
    return Path(os.environ.get(ATTACHED, "/kaggle/input"))


def find_attached(name: str) -> Iterator[Path]:
    """Yield the paths that have a name, those in the fewest folders first."""
    for depth in range(1, DEEPEST + 1):
        yield from sorted(attached_folder().glob("*/" * depth + name))


def find_bundle() -> Path:
    """Find the folder that `make kernel` wrote, by its manifest.json; ConfigError: none, or several."""
    found = [path.parent for path in find_attached("manifest.json") if _is_bundle(path)]
    if len(found) == 1:
        return found[0]
    what = f"{len(found)} datasets of `make kernel`" if found else "no dataset of `make kernel`"
    which = f" ({', '.join(map(str, found))})" * bool(found)
    raise ConfigError(f"{attached_folder()}: {what}{which}: attach one; {_tell_attached()}")


def find_competition(slug: str, images: str = "test_images") -> Path:
    """Find the folder of a competition, which holds a folder of images, by the name in its address.

    Args:
        slug: "" where there is one folder with such images only.
    Raises:
        ConfigError: no such folder, or several and no name; with what is attached.
    """
    home = attached_folder()
    found = [path.parent for path in find_attached(images) if path.is_dir()]
    named = [path for path in found if slug in path.relative_to(home).parts]
    if slug and named:
        return named[0]
    if not slug and len(found) == 1:
        return found[0]
    what = f"competition {slug!r} with its {images}" if slug else f"one folder with {images}"
    there = f"there are {', '.join(map(str, found))}; " * bool(found)
    raise ConfigError(f"{home}: {what} is wanted: attach it, under Add Input; {there}{_tell_attached()}")


def _is_bundle(path: Path) -> bool:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["kind"] == "defectmill bundle"
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _tell_attached() -> str:
    home = attached_folder()
    if not home.is_dir():
        return "there is no such folder: this runs on Kaggle"
    names = sorted(path.relative_to(home).as_posix() for path in [*home.glob("*"), *home.glob("*/*")])
    return f"attached are {', '.join(names[:20]) or 'no inputs'}"
