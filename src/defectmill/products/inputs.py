"""What the input is now: a line for each part of it, written anew only where the part's content changed.

    python -m defectmill.products.inputs scan <input/dataset> <folder of the lines>
    python -m defectmill.products.inputs made <input/dataset> <RAW> [changed code]

make asks at every run, so this imports the standard library alone, and reads files only where their size or
times changed. Hidden files do not count.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

Files = dict[str, list]  # name below a folder -> [size, time of change, time of status change, SHA-256]
# Of each part whose change make notices: the files and folders of input/<dataset> that belong to it.
PARTS: dict[str, tuple[str, ...]] = {
    "train.csv": ("train.csv",),
    "train_images": ("train_images",),
    "test_images": ("test_images",),
    "sample_submission.csv": ("sample_submission.csv",),
    "solution.csv": ("solution.csv",),
    "dataset.json": ("dataset.json", "issues.csv"),
}
MANIFEST = "manifest.json"
NOTE = ".raw.json"  # in input/<dataset>: what it was made from
TABLES = ("train.csv", "solution.csv")  # that somebody may have mended since
DIFFERS = 3  # exit status: input/<dataset> is not made from this RAW


def scan(path: Path, known: Mapping[str, list]) -> Files:
    """Tell size, times and hash of a file, or of all files of a folder and its folders.

    Args:
        known: what an earlier scan told; a file whose size and times are the same is not read again.
    Returns:
        {name below the folder, or the file's own}; empty where there is nothing.
    """
    found: Files = {}
    for name, file, stat in _walk(path):
        # A copy may keep the size and the time of change; the time of status change is the system's.
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        before = known.get(name, [])
        found[name] = before if before[:3] == seen else [*seen, hash_file(file)]
    return found


def sum_up(found: Files) -> str:
    """Sum up names and contents in a line; times do not count."""
    lines = "".join(f"{name}\0{found[name][3]}\n" for name in sorted(found))
    return f"{len(found)} files, sha256 {hashlib.sha256(os.fsencode(lines)).hexdigest()}"


def hash_file(path: str | Path) -> str:
    """SHA-256 of a file, "" where there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def write_parts(folder: Path, target: Path) -> None:
    """Write a line for each part of a competition folder into `target`, touching those that changed.

    Raises:
        DefectmillError: see `check_info`.
    """
    check_info(folder)
    known = _read(target / MANIFEST)
    names = [name for parts in PARTS.values() for name in parts]
    found = {name: scan(folder / name, known.get(name, {})) for name in names}
    for part, members in PARTS.items():
        text = "".join(f"{name}: {sum_up(found[name])}\n" for name in members)
        if part == "dataset.json":
            built_in = Path(__file__).parents[1] / "dataset_infos" / f"{folder.name}.yml"
            text += f"description: {hash_file(built_in) or 'its own'}\n"
        if part == "sample_submission.csv":  # without a solution the last fit, too, predicts the test images
            text += f"solution.csv: {'there' if found['solution.csv'] else 'none'}\n"
        _write(target / part, text)
    _write(target / MANIFEST, json.dumps(found, separators=(",", ":")))


def is_made_from(folder: Path, raw: str) -> bool:
    """Whether a competition folder is there, made from these raw files as they are now.

    Without `raw` nothing of that is checked. Folders or files that do not exist make no dataset: making it
    says so.

    Raises:
        DefectmillError: see `check_info`.
    """
    note = read_note(folder)
    if not (folder / "dataset.json").is_file():
        return False
    if not raw:
        check_info(folder)
        return True
    if not note or note["info"] != hash_file(folder / "info.json"):
        return False
    found = scan_raw(raw, note)
    is_same = note["names"] == _name_sources(raw) and _sum_up_all(found) == _sum_up_all(note["files"])
    if is_same:  # from now on these times, and this place, are known
        _write(folder / NOTE, json.dumps({**note, "raw": raw, "files": found}))
    return is_same


def scan_raw(raw: str, note: Mapping) -> list[Files]:
    """Scan the folders or files of RAW, one after the other; those of the same RAW may be known."""
    sources = _split(raw)
    known = note["files"] if note and note["raw"] == raw else [{}] * len(sources)
    return [scan(source, before) for source, before in zip(sources, known, strict=True)]


def note_made(folder: Path, raw: str) -> None:
    """Note in a competition folder that was just made what it was made from."""
    note = {
        "dataset": folder.name,
        "raw": raw,
        "names": _name_sources(raw),
        "info": hash_file(folder / "info.json"),
        "tables": {name: hash_file(folder / name) for name in TABLES},
        "files": scan_raw(raw, {}),
    }
    _write(folder / NOTE, json.dumps(note))


def read_note(folder: Path) -> dict:
    """Read what a competition folder was made from; empty where no adapter made it.

    A copy under another name, such as augmented images, is none that an adapter made.
    """
    note = _read(folder / NOTE)
    return note if note.get("dataset") == folder.name else {}


def check_info(folder: Path) -> None:
    """Refuse a dataset whose info.json was edited since it was made."""
    note, info = read_note(folder), folder / "info.json"
    if note.get("info") and hash_file(info) not in ("", note["info"]):
        raise _offence(f"{info}: edited since {folder.name} was made: make it anew, with RAW={note['raw']}")


def check_unedited(folder: Path) -> None:
    """Refuse to make a dataset anew over what was made by hand, or mended since it was made.

    Raises:
        DefectmillError: labels without a dataset.json, one without notes, which no adapter writes, a copy of
            another dataset, or labels that are not those that were made.
    """
    note, described = read_note(folder), folder / "dataset.json"
    way_out = f"it would be written over: move {folder} elsewhere first"
    for name, made in note.get("tables", {}).items():
        if hash_file(folder / name) not in ("", made):
            raise _offence(f"{folder / name}: edited since it was made from RAW={note['raw']}; {way_out}")
    if note:
        return
    if not described.is_file():
        if (folder / "train.csv").exists():
            raise _offence(f"{folder / 'train.csv'}: made by hand, without a dataset.json; {way_out}")
    elif not _read(described).get("notes"):
        raise _offence(f"{folder}: made by hand; {way_out}")
    elif (folder / NOTE).is_file():
        raise _offence(f"{folder}: made from {_read(folder / NOTE)['dataset']}, not from RAW; {way_out}")


def _walk(
    path: str | Path, below: str = "", above: tuple[str, ...] = ()
) -> Iterator[tuple[str, str, os.stat_result]]:
    """Give (name below the first folder, path, status) of a file, or of all that are not hidden.

    Links that lead back, to one of the folders `above` or to what holds it, are not followed.
    """
    if not os.path.isdir(path):
        if os.path.isfile(path):
            yield os.path.basename(path), str(path), os.stat(path)
        return
    real = os.path.join(os.path.realpath(path), "")
    if any(outer.startswith(real) for outer in above):
        return
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, f"{below}{entry.name}/", (*above, real))
            elif entry.is_file():  # a link that leads nowhere is none
                yield below + entry.name, entry.path, entry.stat()


def _split(raw: str) -> list[Path]:
    parts = [raw] if Path(raw).expanduser().exists() else raw.split(os.pathsep)  # a path may hold a colon
    return [Path(source).expanduser().resolve() for source in parts if source]


def _name_sources(raw: str) -> list[str]:
    return [source.name for source in _split(raw)]


def _sum_up_all(found: Sequence[Files]) -> list[str]:
    return [sum_up(one) for one in found]


def _read(path: Path) -> dict:
    """Read a JSON file; empty where there is none, or a broken one: then all is scanned again."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        from defectmill.files import write_if_changed  # it loads pandas

        write_if_changed(path, text)


def _offence(text: str) -> ValueError:
    from defectmill.files import DefectmillError  # it loads pandas

    return DefectmillError(text)


def main(words: Sequence[str]) -> int:
    """Run `scan` or `made`, and give the exit status: 0, or `DIFFERS` where the dataset must be made.

    Words after RAW name code that changed since the dataset was made.
    """
    command, folder, other, *newer = words
    if command == "made":
        return 0 if is_made_from(Path(folder), other) and not newer else DIFFERS
    write_parts(Path(folder), Path(other))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as problem:
        from defectmill.files import explain_failure  # it loads pandas

        told = explain_failure(problem) if isinstance(problem, OSError) else problem
        sys.exit(f"error: {told}")
