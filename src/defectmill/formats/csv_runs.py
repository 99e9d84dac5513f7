"""Runs in a CSV file, as competitions at Kaggle ship them: a row an image, an (image, class) or a defect.

Pixels count from 1. Most competitions count down each column, some along each row, with the same columns in
the file: `_find_order` tells which, and a note says how it knows.
"""

import csv as csv_files
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from defectmill.dataset_info import explain_missing
from defectmill.files import SUFFIXES, DefectmillError, match_names, read_table
from defectmill.formats.shapes import Annotated, FormatError, Source, find_pictures, find_split, name_parts
from defectmill.images import read_shape
from defectmill.rle import RleError, clean_rle, parse_runs, rle_to_mask

# Names of columns in small letters, without blanks, dashes and underscores; the first that is there counts.
COLUMNS = {
    "pair": "imageidclassid imagelabel imageclass imageidlabel idclass",
    "image": "imageid image imagename filename file fname imagepath path img imgid recordid id name",
    "runs": "encodedpixels rle rlemask maskrle encoding annotation segmentation predicted runs mask",
    "class": "classid class classname label labelid labelname category categoryid categoryname celltype",
    "height": "height imageheight imgheight",
    "width": "width imagewidth imgwidth",
}
SURE = {"encodedpixels", "rle", "rlemask", "maskrle"}  # columns of this name hold runs and nothing else
# By image and runs: Sartorius's cells, Carvana's cars, UW-Madison's organs.
ALONG_ROWS = {("id", "annotation"), ("img", "rlemask"), ("id", "segmentation")}
# Severstal, Airbus, clouds, fashion, nuclei; HuBMAP; TGS's salt.
DOWN_COLUMNS = {"encodedpixels", "rle", "encoding", "rlemask"}
PAIR = re.compile(rf"(.+(?:{'|'.join(map(re.escape, SUFFIXES))}))_(.+)|(.+)_([^_]+)", re.IGNORECASE)
RUNS = re.compile(r"[0-9]+ [0-9]+( [0-9]+ [0-9]+)*")
ONLY_CLASS = "defect"  # the name where the file has no classes
HEAD = 1 << 16  # characters of a header
SAMPLED, LARGEST = 60, 1 << 26  # masks that `_find_order` looks at, and pixels of the largest
WORD = "word for no runs (-1, NaN, ...), read as no defect"
JOINED = "row of an image and class that has another, joined into one mask"
SHARED = "pixel in several rows of one class, counted once"
CLEAN = "image without a row, counts as clean"
UNKNOWN = "image without a row, nobody annotated it"


@dataclass(frozen=True)
class _Runs:
    """A table of runs. rows: name, kind, rle, word, height, width, path; the index is that of the file."""

    csv: Path
    rows: pd.DataFrame
    others: tuple[Path, ...] = ()  # images beside those that are named
    lists_clean: bool = False  # it has rows for images without a defect
    along_rows: bool = False

    def error(self, index: int, offence: str) -> FormatError:
        return FormatError(f"{self.csv} row {index + 2}: {offence}")


def find(raw: Path) -> Source | None:
    """Find the annotations of a folder with a CSV file and images, or of such a file; None: another format.

    Read are columns of an image (or image_class), of runs and perhaps of a class, height and width, by the
    names in COLUMNS. The direction of the runs can be told by the name: EncodedPixels_rows, rle_columns.

    Raises:
        FormatError: two such files, one that is not comma-separated, or none of its images is there.
    """
    found = {csv: columns for csv in _list_files(raw) if (columns := _find_columns(csv))}
    if len(found) > 1:
        named = " and ".join(str(csv.relative_to(raw)) for csv in found)
        raise FormatError(f"{raw}: {named} hold runs; give one of them")
    for csv, columns in found.items():
        rows = _read_rows(csv, columns)
        return None if rows is None else _open(_Runs(csv, rows), columns)
    return None


def _list_files(raw: Path) -> list[Path]:
    """List the CSV files of a folder, else of those in it; samples of submissions hold no labels."""
    if not raw.is_dir():
        return [raw] if raw.suffix.lower() == ".csv" and raw.is_file() else []
    for pattern in ("[!._]*.[cC][sS][vV]", "[!._]*/[!._]*.[cC][sS][vV]"):
        there = sorted(path for path in raw.glob(pattern) if path.is_file())
        found = [path for path in there if not re.search("sample|submission", path.name.lower())]
        if any(_find_columns(path) for path in found):
            return found
    return []


def _find_columns(csv: Path) -> dict[str, str]:
    """Find which column has which part, by the header; {} where images or runs have none."""
    with csv.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline(HEAD)
    for separator in ",;\t":
        try:
            names = next(csv_files.reader([header], delimiter=separator), [])
        except csv_files.Error:
            return {}
        plain = {_plain(name): name.strip() for name in reversed(names)}
        columns: dict[str, str] = {}
        for part, known in COLUMNS.items():
            for name in known.split():
                if name in plain:
                    columns.setdefault(part, plain[name])
        if "runs" in columns and columns.keys() & {"image", "pair"}:
            if separator != ",":
                raise FormatError(f"{csv} row 1: columns are separated by {separator!r}; save it with commas")
            return columns
    return {}


def _plain(name: str) -> str:
    return re.sub(r"rows$|columns$", "", re.sub(r"[\s_-]", "", name.casefold()))


def _read_rows(csv: Path, columns: Mapping[str, str]) -> pd.DataFrame | None:
    """Read the rows; None where cells that need not be runs are none."""
    try:
        table = read_table(csv)
    except DefectmillError as error:
        raise FormatError(str(error)) from error
    written = table[columns["runs"]]
    runs = written.map(clean_rle)
    if _plain(columns["runs"]) not in SURE and not runs[runs != ""].head(1).map(RUNS.fullmatch).any():
        return None
    rows = pd.DataFrame({"rle": runs, "word": (runs == "") & (written.str.strip() != "")})
    for part in ("height", "width"):
        rows[part] = table[columns[part]] if part in columns else ""
    if "pair" in columns:
        pairs = [_split_pair(csv, row, text.strip()) for row, text in enumerate(table[columns["pair"]], 2)]
        return rows.assign(name=[name for name, _ in pairs], kind=[kind for _, kind in pairs])
    kinds = table[columns["class"]].str.strip() if "class" in columns else ONLY_CLASS
    return rows.assign(name=table[columns["image"]].str.strip(), kind=kinds)


def _split_pair(csv: Path, row: int, text: str) -> tuple[str, str]:
    """Split "0001.jpg_Fish_eye" after the suffix, a name without a suffix at its last underscore."""
    found = PAIR.fullmatch(text)
    if not found:
        raise FormatError(f"{csv} row {row}: not '<image>_<class>': {text!r}")
    return found[1] or found[3], found[2] or found[4]


def _open(table: _Runs, columns: Mapping[str, str]) -> Source:
    """Join the rows to their images, name the classes, and tell the direction of the runs."""
    rows = table.rows
    for index, name, kind, rle in rows[["name", "kind", "rle"]].itertuples():
        if not name or (rle and not kind):
            raise table.error(index, f"no {'class' if name else 'image'}: {name!r}, {kind!r}")
    files = find_pictures(table.csv.parent).files
    paths, notes = _find_files(table, files)
    named, folders = set(paths.values()), {path.parent for path in paths.values()}
    others = tuple(path for path in files if path.parent in folders and path not in named)
    rows = rows[rows["name"].isin(paths)].assign(path=rows["name"].map(paths))
    has_defect = rows["rle"].ne("").groupby(rows["path"]).any()
    kinds = rows.loc[rows["kind"] != "", "kind"].unique().tolist()
    if all(kind.isdecimal() for kind in kinds):
        names = {kind: f"class {kind}" for kind in sorted(kinds, key=int)}
    else:
        names = {kind: kind for kind in kinds}
    if others:
        meaning = "clean" if has_defect.all() else "nobody annotated them"
        notes.append(f"{len(others)} images without a row: {meaning}")
    along_rows, note = _find_order(rows, columns)
    rows = rows.assign(kind=rows["kind"].map(names))
    table = _Runs(table.csv, rows, others, not has_defect.all(), along_rows)
    return Source("csv", tuple(names.values()), lambda: _read(table), notes=(note, *notes))


def _find_files(table: _Runs, files: Sequence[Path]) -> tuple[dict[str, Path], list[str]]:
    """Find the file of each name: {name: path}, and a note on those that have none.

    A name with folders is looked for by them; then the folders are asked in turn, that of most names first.
    """
    home, wanted = table.csv.parent, table.rows["name"].drop_duplicates()
    left, paths, why = wanted.tolist(), dict[str, Path](), dict[str, str]()
    folders: dict[Path, list[str]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path.name)
    for depth in {name.count("/") for name in left} - {0}:
        tails = pd.Series(files, index=["/".join(path.parts[-depth - 1 :]) for path in files])
        tails = tails[~tails.index.duplicated(keep=False)]
        paths |= {name: tails[name] for name in left if name in tails}
    left = [name for name in left if name not in paths]
    ends = {re.split(r"[/\\]", name)[-1] for name in left}
    score = {one: len(ends & {*names, *(Path(n).stem for n in names)}) for one, names in folders.items()}
    ranked = sorted(folders, key=lambda folder: (-score[folder], "mask" in folder.name.lower(), folder))
    for folder in ranked:
        if left and (score[folder] or not paths):
            found, lost = match_names(left, folders[folder])
            paths |= {name: folder / file for name, file in found.items()}
            why = {name: reason for name, reason in lost.items() if reason} | why
            left = [name for name in left if name not in paths]
    for index, name in wanted[wanted.isin(left)].items():
        if why.get(name) or not paths:
            reason = why.get(name) or explain_missing(name, [path.name for path in files], home)
            raise table.error(index, f"no image file {name!r}{reason}")
    notes = []
    if left:
        notes += [f"{len(left)} of {len(wanted)} images have no file ({left[0]}, ...): left out"]
    if len(ranked) > 1 and score[ranked[1]] == score[ranked[0]] > 0:
        used, other = (folder.relative_to(home).as_posix() for folder in ranked[:2])
        notes += [f"images are those of {used}; {other} has files of the same names"]
    return paths, notes


def _find_order(rows: pd.DataFrame, columns: Mapping[str, str]) -> tuple[bool, str]:
    """Tell whether runs go along rows, and how that is known.

    By the name of the column; else by the masks, which fall to pieces when read the wrong way (of square
    images either way fits); else by the competition that has these columns.
    """
    name, way = columns["runs"], ("down columns", "along rows")
    if told := re.search("(rows|columns)$", name.casefold()):
        return told[0] == "rows", f"runs go {way[told[0] == 'rows']}, as the name of the column {name} says"
    several = rows.loc[rows["rle"].str.count(" ") > 1, ["path", "rle"]]
    down = along = looked = 0
    for path, rle in several[:: max(1, len(several) // SAMPLED)].itertuples(index=False):
        shape = read_shape(path)
        if shape[0] != shape[1] and shape[0] * shape[1] <= LARGEST:
            try:
                pieces = [_count_pieces(rle_to_mask(rle, one)) for one in (shape, shape[::-1])]
            except RleError:
                continue  # reading will name the row
            down, along, looked = down + pieces[0], along + pieces[1], looked + 1
    few, many = sorted((down, along))
    if many - few > 2 and many > 1.25 * few:
        seen = f"{looked} masks fall into {few} pieces so, into {many} the other way"
        return along < down, f"runs go {way[along < down]}: {seen}"
    key = _plain(columns.get("image", columns.get("pair", ""))), _plain(name)
    is_known, along_rows = key in ALONG_ROWS or key[1] in DOWN_COLUMNS, key in ALONG_ROWS
    by = "as in the competition with these columns" if is_known else "as nearly always"
    way_out = f"where they lie transposed, rename the column {name}_{'columns' if along_rows else 'rows'}"
    return along_rows, f"runs are taken to go {way[along_rows]}, {by}; the masks do not tell: {way_out}"


def _count_pieces(mask: np.ndarray) -> int:
    return cv2.connectedComponents(mask, connectivity=8)[0] - 1


def _read(table: _Runs) -> Iterator[Annotated]:
    groups = dict(iter(table.rows.groupby("path")))
    paths = sorted([*groups, *table.others])
    splits = {path: find_split(path.relative_to(table.csv.parent).parts[:-1]) for path in paths}
    parts = name_parts(splits) if all(splits.values()) else {}
    for path in paths:
        shape = read_shape(path)
        if path not in groups:
            empty: dict[str, np.ndarray] | None = None if table.lists_clean else {}
            issue = UNKNOWN if table.lists_clean else CLEAN
            yield Annotated(path, shape, empty, parts.get(path, ""), {issue: 1})
        else:
            yield Annotated(path, shape, *_draw(table, groups[path], shape, parts.get(path, "")))


def _draw(
    table: _Runs, rows: pd.DataFrame, shape: tuple[int, int], part: str
) -> tuple[dict[str, np.ndarray], str, dict[str, int]]:
    """Draw the rows of one image: masks, part and issues of `Annotated`."""
    masks: dict[str, np.ndarray] = {}
    issues = {WORD: int(rows["word"].sum()), JOINED: 0, SHARED: 0}
    for index, kind, rle, *size in rows[["kind", "rle", "height", "width"]].itertuples():
        _check_size(table, index, size, shape)
        if not rle:
            continue
        try:
            parse_runs(rle, shape)
            mask = rle_to_mask(rle, shape[::-1]).T if table.along_rows else rle_to_mask(rle, shape)
        except RleError as error:
            raise table.error(index, f"{rows['name'][index]}: {error}") from error
        if kind in masks:
            issues[JOINED] += 1
            issues[SHARED] += int((masks[kind] & mask).sum())
            mask = masks[kind] | mask
        masks[kind] = np.ascontiguousarray(mask)
    return masks, part, issues


def _check_size(table: _Runs, index: int, size: list[str], shape: tuple[int, int]) -> None:
    """Refuse a row that gives its image another height or width than its file has."""
    if not all(cell.strip() for cell in size):
        return
    try:
        height, width = (int(float(cell)) for cell in size)
    except (ValueError, OverflowError) as error:
        raise table.error(index, f"height and width are no numbers: {size}") from error
    if (height, width) != shape:
        swapped = " (swapped?)" * ((width, height) == shape)
        said = f"says height {height} and width {width}{swapped}"
        raise table.error(index, f"{said}; {table.rows['path'][index].name} has {shape[0]} and {shape[1]}")
