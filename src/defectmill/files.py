"""The project's folder, the base of its errors; tables, names of files, files written whole or not at all."""

import errno
import fcntl
import os
import re
import shutil
import signal
import socket
import stat
import threading
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

pd.set_option("display.html.use_mathjax", False, "styler.html.mathjax", False)  # $x$ is a name, no formula

PACKAGE = Path(__file__).resolve().parent
# The project's folder: the one that the environment names, else the code's checkout, else the current one.
_CHECKOUT = PACKAGE.parents[1] if (PACKAGE.parents[1] / "Makefile").is_file() else Path()
ROOT = Path(os.environ.get("DEFECTMILL_HOME") or _CHECKOUT).expanduser().resolve()
# Of the files that are read as images, in small letters; of a .gif the first picture counts.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
UNATTENDED = "DEFECTMILL_UNATTENDED"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# Controls, ends of lines, and bytes that are no UTF-8 (as Python gives them): in no name of a file.
_NO_LETTER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
LONGEST = 2000  # letters of an error
CELLS = 10_000  # columns of a table
_GONE = "the network drive is gone: mount it again, then run the same again"
FAILURES = {
    errno.ENOENT: "no such file",
    errno.ENOSPC: "the disk is full: make room, then run the same again",
    errno.EDQUOT: "your share of the disk is used up: make room, then run the same again",
    errno.EFBIG: "the file grew larger than this system allows",
    errno.EROFS: "the disk is read-only: choose another place, or mount it to be written",
    **dict.fromkeys((errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN), _GONE),
    errno.EIO: "the disk cannot be read or written: is it damaged, or gone?",
}


class DefectmillError(ValueError):
    """What went wrong, where (file, row, value) and what to do; base of all errors of the project."""

    def __str__(self) -> str:
        """Tell it without what no terminal shows, and what is long without its middle."""
        text = super().__str__()
        text = text if len(text) <= LONGEST else f"{text[: LONGEST - 500]} ... {text[-500:]}"
        return "\n".join(map(show_text, text.split("\n")))

    def _render_traceback_(self) -> list[str]:
        """Show one line in a notebook instead of a traceback (IPython's hook)."""
        return [f"{type(self).__name__}: {self}"]


def explain_failure(error: OSError | MemoryError) -> str:
    """Say in one line what the machine could not do: disk full, drive gone, memory exhausted, ..."""
    if isinstance(error, MemoryError):
        return f"the memory is exhausted ({str(error) or 'no more is given'}): end others, or ask for less"
    why = FAILURES.get(error.errno or 0, error.strerror or str(error))
    place = error.filename if isinstance(error.filename, str | bytes | os.PathLike) else ""
    return show_text(f"{os.fsdecode(place)}: {why}" if place else why)


def show_text(text: str) -> str:
    """Write controls and what is no UTF-8 by their codes, so that any terminal or file takes the text."""
    return _NO_LETTER.sub(lambda found: ascii(found[0])[1:-1], text)


def is_text(name: str) -> bool:
    """Whether the name of a file is a line of text, which tables and pages can hold."""
    return not _NO_LETTER.search(name)


def check_name(name: str, what: str) -> str:
    """Give back a name that becomes part of paths; DefectmillError, which begins with `what`, for another."""
    if not _NAME.fullmatch(name):
        wanted = "one word of letters, digits, dots, dashes and underscores"
        raise DefectmillError(f"{what}={show_text(name)}: {wanted} is wanted")
    return name


def check_file(path: Path) -> Path:
    """Give a path back; DefectmillError where there is no file, or a pipe or device that would never end."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        raise DefectmillError(f"{path}: {FAILURES.get(error.errno or 0, error.strerror)}") from error
    if kind != stat.S_IFREG:
        what = "folder" if kind == stat.S_IFDIR else "pipe or device"
        raise DefectmillError(f"{path}: cannot be read (it is a {what})")
    return path


def read_file(path: Path) -> bytes:
    """Read a file; see `check_file`."""
    try:
        return check_file(path).read_bytes()
    except OSError as error:
        why = FAILURES.get(error.errno or 0, error.strerror)
        raise DefectmillError(f"{path}: cannot be read ({why})") from error


def read_text(path: Path) -> str:
    """As `read_file`, of text in UTF-8, with or without a mark at its begin; lines end with \\n."""
    try:
        return read_file(path).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        why = f"{error.reason} at byte {error.start}"
        raise DefectmillError(f"{path}: not UTF-8 ({why}): save it as UTF-8") from error


def find_own(name: str) -> Path:
    """Path of a file of notebooks/: the project's own, or where it has none, the one the package brings."""
    own = ROOT / "notebooks" / name
    return own if own.is_file() else PACKAGE / "notebooks" / name


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
    except OSError as error:
        if error.errno and not error.filename:  # a full disk does not tell it
            error.filename = str(path)
        raise
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
        DefectmillError: no such file, not UTF-8, no table, a NUL, over CELLS columns, or more cells in the
            first row than in the header.
    """
    data = read_file(csv)
    if (cells := re.split(rb"[\r\n]", data, maxsplit=1)[0].count(b",") + 1) > CELLS:
        raise DefectmillError(f"{csv} row 1: has {cells:,} columns; no table of labels has over {CELLS:,}")
    try:
        # Empty lines are kept, so that rows count as in an editor; those at the end are not.
        table = pd.read_csv(BytesIO(data), dtype=str, keep_default_na=False, skip_blank_lines=False)
    except UnicodeDecodeError as error:
        raise DefectmillError(f"{csv}: not UTF-8 ({error.reason}): save it as UTF-8") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DefectmillError(f"{csv}: not a CSV table: {str(error).strip()}") from error
    if b"\0" in data:
        raise DefectmillError(
            f"{csv} row {data[: data.index(0)].count(10) + 1}: holds a NUL; save it as text"
        )
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


def name_masks(image_ids: Iterable[str]) -> dict[str, str]:
    """Name the mask of each image, without suffix: its stem, or its whole id where two share one.

    Names that differ in their case alone count as one: some file systems cannot tell them apart.
    """
    names = {image_id: Path(image_id).stem for image_id in image_ids}
    shared = list(names)
    while shared:
        uses = Counter(name.casefold() for name in names.values())
        shared = [i for i, name in names.items() if name != i and uses[name.casefold()] > 1]
        names.update({i: i for i in shared})
    return names


@contextmanager
def end_after(seconds: float, offence: str) -> Iterator[None]:
    """Raise DefectmillError in a block that takes longer; only the main thread can be ended so."""

    def end(*_: object) -> None:
        raise DefectmillError(offence)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, end)
    rest = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *rest)
        signal.signal(signal.SIGALRM, before)


def is_unattended() -> bool:
    """Whether make runs this process: then nobody can use widgets or wants progress bars in a notebook."""
    return bool(os.environ.get(UNATTENDED))


def delete(path: Path) -> None:
    """Delete a file, a link or a folder, if it is there; not what a link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
