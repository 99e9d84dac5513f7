"""The project's folder, the base of its errors; tables, names of files, files written whole or not at all."""

import fcntl
import os
import re
import shutil
import socket
import time
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
# Of the files that are read as images, in small letters; of a .gif the first picture counts.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
_UNATTENDED = "DEFECTMILL_UNATTENDED"


class DefectmillError(ValueError):
    """What went wrong, where (file, row, value) and what to do; base of all errors of the project."""

    def _render_traceback_(self) -> list[str]:
        """Show one line in a notebook instead of a traceback (IPython's hook)."""
        return [f"{type(self).__name__}: {self}"]


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write a file or a folder under.

    When the block ends it is swapped in; when the block fails it is deleted, and what stood under
    `path` before still stands.
    """
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        delete(part)
    except OSError as error:
        raise DefectmillError(
            f"{path}: cannot be written ({error.strerror}); choose another place"
        ) from error
    try:
        yield part
        if path.is_dir() and part.exists():
            delete(path)
        part.replace(path)
    finally:
        delete(part)


@contextmanager
def hold(lock: Path, what: str, shared: bool = False) -> Iterator[None]:
    """Hold a lock file while a block runs; it ends with the process, however that ends.

    Where the disk knows no locks, or takes no file, nothing is held.

    Args:
        what: what is done under it, for the message of others.
        shared: others may hold it at once, if they say the same.
    Raises:
        DefectmillError: another process holds it; with its number, its machine and since when.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(lock.open("a+", encoding="utf-8"))
            try:
                fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise DefectmillError(f"{file.read().strip()}: wait for it, or stop it") from error
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M")
            file.write(f"{what} by process {os.getpid()} on {socket.gethostname()} since {since}\n")
            file.flush()
        yield


def write_if_changed(path: Path, text: str) -> None:
    """Write a text file, or leave it untouched where it says the same: make goes by its time."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with write_atomically(path) as part:
            part.write_text(text, encoding="utf-8", newline="")


def read_table(csv: Path) -> pd.DataFrame:
    """Read a CSV file as text, "" for an empty cell; row n of the table is line n + 2 in an editor.

    Raises:
        DefectmillError: no such file, not UTF-8, no table, or a first row with more cells than the header.
    """
    try:
        # Empty lines are kept, so that rows count as in an editor; those at the end are not.
        table = pd.read_csv(csv, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except FileNotFoundError as error:
        raise DefectmillError(f"{csv}: no such file") from error
    except OSError as error:
        raise DefectmillError(f"{csv}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DefectmillError(f"{csv}: not UTF-8 ({error.reason}): save it as UTF-8") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DefectmillError(f"{csv}: not a CSV table: {error}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise DefectmillError(f"{csv} row 2: has more cells than the header")
    if len(table.columns) == 1 and (found := re.search("[;\t]", table.columns[0])):
        raise DefectmillError(f"{csv} row 1: columns are separated by {found[0]!r}; save it with commas")
    filled = np.flatnonzero((table != "").any(axis=1))
    return table[: filled.max(initial=-1) + 1].rename(columns=str.strip)


def match_names(names: Iterable[str], image_ids: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Find the image that each name in a table means.

    A name is a file's, or differs from it in its Unicode form, by blanks around it or by a folder before it,
    or lacks the suffix of the one file of that stem.

    Returns:
        {name: image id}, and {name: why it means none}, "" where nothing is like it.
    """
    by_name, by_stem, by_letters = (defaultdict[str, list[str]](list) for _ in range(3))
    for image_id in image_ids:
        plain = unicodedata.normalize("NFC", image_id)
        stem = Path(plain).stem
        by_name[plain].append(image_id)
        by_stem[stem].append(image_id)
        for key in {plain.casefold(), stem.casefold()}:
            by_letters[key].append(image_id)
    known, found, lost = set(image_ids), dict[str, str](), dict[str, str]()
    folders = defaultdict[str, dict[str, str]](dict)  # of each image found
    for name in names:
        plain = unicodedata.normalize("NFC", name.strip()).replace("\\", "/")
        folder, _, last = ("", "", name) if name in known else plain.rpartition("/")
        hits = [name] if name in known else by_name.get(plain) or by_name.get(last) or by_stem.get(last, [])
        if len(hits) == 1:
            found[name] = hits[0]
            folders[hits[0]].setdefault(folder, name)
        else:
            near = by_letters.get(last.casefold(), [])
            lost[name] = f"; there is {near[0]!r}: the case of letters counts" if near else ""
            if hits:
                lost[name] = f"; it may mean {' or '.join(map(repr, hits))}"
    for image_id, several in folders.items():
        if len(several) > 1:
            offence = f"; {' and '.join(map(repr, several.values()))} would be one image, {image_id!r}"
            lost |= {name: offence for name, meant in found.items() if meant == image_id}
    return {name: image_id for name, image_id in found.items() if name not in lost}, lost


def is_unattended() -> bool:
    """Whether make runs this process: then nobody can use widgets or wants progress bars in a notebook."""
    return bool(os.environ.get(_UNATTENDED))


def set_unattended() -> None:
    """Tell this process and the kernels that it starts that nobody watches the notebook."""
    os.environ[_UNATTENDED] = "1"


def delete(path: Path) -> None:
    """Delete a file, a link or a folder, if it is there; not what a link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
