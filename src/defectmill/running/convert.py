"""Masks in the formats of other tools: the labels of a prepared dataset, or what an inspection found.

Each format has a folder of its own, with losses.csv: what its polygons lose of the masks, and gain.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill import files
from defectmill.config import ConfigError, list_experiments, load_experiment
from defectmill.dataset_info import DatasetInfo, load_dataset_info, nearest
from defectmill.formats import WRITERS, load_writer
from defectmill.images import colours_from_masks, list_images, read_shape, write_image
from defectmill.labels import draw_runs, masks_to_labels, read_csv, read_labels, runs_by_image, write_labels
from defectmill.prediction.inspection import flatten_ids, is_input, name_products
from defectmill.rle import rle_area

LOSSES = "losses.csv"  # where there is one, the folder was written here
LOSS_COLUMNS = ["ImageId", "ClassId", "pixels", "lost", "gained"]
Masks = Iterable[tuple[str, np.ndarray]]  # image id, (H, W, C) uint8 in {0, 1}
Write = Callable[[Masks, DatasetInfo, Path], pd.DataFrame]


def write_csv(masks: Masks, info: DatasetInfo, folder: Path) -> pd.DataFrame:
    """Write labels.csv: Kaggle's runs, a row for every (image, class), so that clean images are named too."""
    labels = masks_to_labels(masks)
    write_labels(labels, folder / "labels.csv", "2019")
    table = labels.assign(pixels=labels["EncodedPixels"].map(rle_area), lost=0, gained=0)
    return table.loc[labels["hasMask"], LOSS_COLUMNS].reset_index(drop=True)


def write_masks(masks: Masks, info: DatasetInfo, folder: Path) -> pd.DataFrame:
    """Write a colour mask an image, and classes.csv with the colours; a later class covers an earlier one."""
    kinds = [(kind.id, kind.name, *kind.colour) for kind in info.classes]
    table = pd.DataFrame(kinds, columns=["ClassId", "class", "red", "green", "blue"])
    table.to_csv(folder / "classes.csv", index=False, lineterminator="\n")
    shapes: dict[str, tuple[int, int]] = {}
    labels = masks_to_labels(_note_shapes(masks, shapes))  # a few kB an image, where masks are MB
    names, rows = name_products(shapes), list[tuple]()
    for image_id, drawn in _draw(labels, shapes.__getitem__, info):
        write_image(folder / f"{names[image_id]}.png", colours_from_masks(drawn, info.colours))
        later = np.cumsum(drawn[:, :, ::-1], axis=2, dtype=int)[:, :, ::-1] - drawn
        counts = zip(drawn.sum(axis=(0, 1), dtype=int), (drawn & (later > 0)).sum(axis=(0, 1)), strict=True)
        rows += [(image_id, n, *map(int, count), 0) for n, count in enumerate(counts, 1) if count[0]]
    return pd.DataFrame(rows, columns=LOSS_COLUMNS)


OWN: dict[str, Write] = {"csv": write_csv, "masks": write_masks}


def choose_formats(text: str) -> list[str]:
    """Read make's FORMAT, names parted by commas or blanks; ConfigError for one that is unknown."""
    chosen = list(dict.fromkeys(re.findall(r"[^\s,]+", text)))
    known = [*WRITERS, *OWN]
    for name in chosen:
        if name not in known:
            raise ConfigError(f"FORMAT={text}: no format {name!r}{nearest(name, known)}")
    return chosen


def check_formats(formats: Iterable[str], folder: Path) -> None:
    """Raise ConfigError where a format would be written over what was not written here."""
    for name in formats:
        path = folder / name
        if path.exists() and not (path / LOSSES).is_file():
            raise ConfigError(f"{path} is there and not written by this command; choose another OUT")


def convert(name: str, formats: str, out: str) -> list[Path]:
    """Write the labels of input/<dataset> in other formats, <out>/<format>/train and test; tell what is lost.

    Args:
        name: of a dataset, or of an experiment whose dataset is meant.
        formats: parted by commas.
        out: a folder; a relative one begins at the current folder.
    Returns:
        The folders written.
    Raises:
        ConfigError: no such dataset, no format, or an `out` that cannot be written.
    """
    chosen, target = choose_formats(formats), Path(out).expanduser().absolute()
    if not (name and chosen and out):
        known = ",".join([*WRITERS, *OWN])
        raise ConfigError(f"say NAME=<dataset or experiment> FORMAT=<one or more of {known}> OUT=<folder>")
    if not (files.ROOT / "input" / name).is_dir() and name in list_experiments():
        name = load_experiment(name).dataset
    info, source = load_dataset_info(name), files.ROOT / "input" / name
    if not (source / "dataset.json").is_file():
        raise ConfigError(f"{source} is not prepared: `make input DATASET={name}` comes first")
    if is_input(target):
        raise ConfigError(f"OUT={out}: input/ is read-only; choose another folder")
    check_formats(chosen, target)
    parts: dict[str, Callable[[], Masks]] = {}
    for part, csv in (("train", source / "train.csv"), ("test", source / "solution.csv")):
        if csv.is_file():
            parts[part] = _read_part(source / f"{part}_images", csv, info)
    print(f"{name}: {' and '.join(parts)} part; the images stay in {source}")
    return [write_format(one, parts, info, target) for one in chosen]


def export_inspection(target: Path, info: DatasetInfo, formats: Iterable[str]) -> list[Path]:
    """Write what an inspection found in other formats, each in a folder of its own beside its products.

    Its masks/ and runs.csv are two of them already. Those of an earlier inspection are deleted.
    """
    for path in [target / name for name in WRITERS if (target / name / LOSSES).is_file()]:
        shutil.rmtree(path)
    table = pd.read_csv(target / "pictures.csv", dtype={"ImageId": str}, keep_default_na=False)
    read = table[table["height"] != ""].astype({"height": int, "width": int})
    shapes = {i: (h, w) for i, h, w in read[["ImageId", "height", "width"]].itertuples(index=False)}
    labels = read_labels(target / "runs.csv", shapes, info.n_classes)
    names = flatten_ids(shapes)  # COCO alone names images by their path
    draw = {"": lambda: _draw(labels, shapes.__getitem__, info)}
    flat = {"": lambda: ((names[i], masks) for i, masks in _draw(labels, shapes.__getitem__, info))}
    chosen = [name for name in formats if name not in OWN]
    return [write_format(name, draw if name == "coco" else flat, info, target) for name in chosen]


def write_format(
    name: str, parts: Mapping[str, Callable[[], Masks]], info: DatasetInfo, folder: Path
) -> Path:
    """Write <folder>/<name>, a folder for each part in it, and print what is lost; give the path.

    Args:
        parts: {folder: what gives image ids and masks}; "" is no folder.
    """
    write = OWN[name] if name in OWN else load_writer(name)
    tables = []
    with files.write_atomically(folder / name) as work:
        for part, masks in parts.items():
            (work / part).mkdir(parents=True, exist_ok=True)
            tables.append(write(masks(), info, work / part).assign(part=part))
        losses = pd.concat(tables, ignore_index=True)
        if not any(parts):
            losses = losses.drop(columns="part")
        losses.to_csv(work / LOSSES, index=False, lineterminator="\n")
    print(f"  {name}: {tell_losses(losses)}")
    return folder / name


def tell_losses(losses: pd.DataFrame) -> str:
    """Say what a format lost and gained, in pixels and in shares of all mask pixels."""
    pixels, lost, gained = (int(losses[column].sum()) for column in LOSS_COLUMNS[2:])
    told = f"{len(losses):,} mask{'s' * (len(losses) != 1)} of {pixels:,} pixels"
    if not lost + gained:
        return f"{told}, exact to the pixel"
    shares = (f"{n:,} ({n / max(pixels, 1):.2%})" for n in (lost, gained))
    return "{}; {} lost, {} gained".format(told, *shares)


def _read_part(folder: Path, csv: Path, info: DatasetInfo) -> Callable[[], Masks]:
    """What draws the masks of all images of a part; tells of labels whose image file is not there."""
    ids = list_images(folder)
    labels = read_labels(csv, ids, info.n_classes, info.partial)
    if missing := {*read_csv(csv)["ImageId"]} - {*ids} if info.partial else set():
        print(f"{csv}: {len(missing)} labelled images have no file, and are left out")
    return lambda: _draw(labels, lambda image_id: read_shape(folder / image_id), info)


def _note_shapes(masks: Masks, shapes: dict[str, tuple[int, int]]) -> Iterator[tuple[str, np.ndarray]]:
    for image_id, drawn in masks:
        shapes[image_id] = drawn.shape[0], drawn.shape[1]
        yield image_id, drawn


def _draw(
    labels: pd.DataFrame, shape_of: Callable[[str], tuple[int, int]], info: DatasetInfo
) -> Iterator[tuple[str, np.ndarray]]:
    for image_id, runs in runs_by_image(labels).items():
        yield image_id, draw_runs(runs, shape_of(image_id), info.n_classes, image_id)
