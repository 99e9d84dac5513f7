"""The project's folder, the base of all its errors, and files that are written whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
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
    part.parent.mkdir(parents=True, exist_ok=True)
    _delete(part)
    try:
        yield part
        if path.is_dir() and part.exists():
            _delete(path)
        part.replace(path)
    finally:
        _delete(part)


def write_if_changed(path: Path, text: str) -> None:
    """Write a text file, or leave it untouched where it says the same: make goes by its time."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with write_atomically(path) as part:
            part.write_text(text, encoding="utf-8", newline="")


def is_unattended() -> bool:
    """Whether make runs this process: then nobody can use widgets or wants progress bars in a notebook."""
    return bool(os.environ.get(_UNATTENDED))


def set_unattended() -> None:
    """Tell this process and the kernels that it starts that nobody watches the notebook."""
    os.environ[_UNATTENDED] = "1"


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
