"""Inspections: which pictures of a folder are read, what is told of each, where the products go.

Products are made in <out>.part and swapped in when all of them are there.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from defectmill import files
from defectmill.config import ConfigError, Experiment
from defectmill.dataset_info import DatasetInfo
from defectmill.files import SUFFIXES, is_text, name_masks, show_text
from defectmill.prediction import line
from defectmill.products.manifest import check_predictions

PRODUCTS = ("masks", "overlays", "runs.csv", "defects.csv", "pictures.csv", "index.html")
FORMER = (*PRODUCTS[:4], "skipped.csv")  # of earlier versions
COLUMNS = ["ImageId", "ClassId", "class", "area", "top", "left", "height", "width"]
COLUMNS += ["centroid_row", "centroid_column", "mean_probability"]
NUMBERS = {"height": "Int64", "width": "Int64", "area": "Int64", "area_percent": float}
NUMBERS |= {"largest_probability": float, "components": "Int64"}
PICTURE_COLUMNS = ["ImageId", "verdict", "reason", "classes", *NUMBERS, "unlike_training"]
VERDICTS = DEFECT, UNREADABLE, OK, SKIPPED = "defect", "unreadable", "OK", "skipped"
# Of pictures all the same, which are not read.
OTHER_SUFFIXES = {".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".jfif", ".jpe", ".dib", ".pgm", ".ppm"}
OTHER_SUFFIXES |= {".pbm", ".pnm", ".tga", ".psd", ".svg", ".exr", ".hdr", ".dcm", ".raw", ".dng", ".cr2"}
OTHER_SUFFIXES |= {".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".webp", ".gif"} - set(SUFFIXES)


@dataclass(frozen=True)
class Listing:
    """The pictures of an inspection.

    image_ids: paths below `folder`, parted by "/". skipped: {path below it: why it is not read}. unreadable:
    {image id: why}, of those that turn out to be no images.
    """

    folder: Path
    image_ids: list[str]
    skipped: dict[str, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


def list_pictures(folder: Path, target: Path | None = None) -> Listing:
    """List the images of a folder and of all folders in it.

    What is hidden is nobody's picture, and `target` and its parts are not looked into. Other folders that are
    not, and pictures of a kind that is not read, are told in `skipped`.
    """
    found, skipped, own = list[str](), dict[str, str](), {target, Path(f"{target}.part")}

    def refuse(error: OSError) -> None:
        place = Path(error.filename).relative_to(folder).as_posix()
        skipped[show_text(place)] = f"cannot be opened ({error.strerror})"

    for place, folders, names in os.walk(folder, onerror=refuse):
        here, inner = Path(place), Path(place).relative_to(folder)
        visible = [n for n in folders if not n.startswith(".") and n != "__MACOSX" and here / n not in own]
        others = {n: "a link to a folder, not followed" for n in visible if (here / n).is_symlink()}
        others |= {n: "a folder with an inspection" for n in visible if holds_inspection(here / n)}
        folders[:] = [name for name in visible if name not in others]
        for name in (name for name in names if not name.startswith(".")):
            suffix = Path(name).suffix.lower()
            if suffix in SUFFIXES and is_text(str(inner / name)):
                found.append((inner / name).as_posix())
            elif suffix in SUFFIXES:
                others[name] = "its path is no line of text in UTF-8: rename it"
            elif suffix in OTHER_SUFFIXES:
                others[name] = f"{suffix} is not read: save it as .png"
        skipped |= {show_text((inner / name).as_posix()): why for name, why in others.items()}
    return Listing(folder, sorted(found), dict(sorted(skipped.items())))


def check_inspection(run: Experiment, images: str, out: str) -> tuple[Path, Path]:
    """Check which folder an inspection reads and which it writes, and give both as absolute paths.

    Relative ones begin at the project's. ConfigError says what to do where there is no model, no thresholds
    or no image, or where `out` holds what no inspection wrote and would be written over.
    """
    check_model(run)
    if not (images and out):
        raise ConfigError("say IMAGES=<folder of images> OUT=<folder to write>")
    source = (files.ROOT / Path(images).expanduser()).resolve()
    target = check_target(files.ROOT / Path(out).expanduser(), source)
    require_pictures(source, target)
    return source, target


def require_pictures(folder: Path, target: Path | None = None) -> Listing:
    """As `list_pictures`; ConfigError where there is no folder or no image, with what is there instead."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; choose another one")
    listing = list_pictures(folder, target)
    if not listing.image_ids:
        skipped = [f"{name} ({reason})" for name, reason in listing.skipped.items()]
        told = f"; skipped: {', '.join(skipped[:3])}{', ...' * (len(skipped) > 3)}" * bool(skipped)
        raise ConfigError(f"{folder} and its folders hold no image ({' '.join(SUFFIXES)}){told}")
    return listing


def check_model(run: Experiment) -> None:
    """Raise ConfigError where a network, thresholds or a region are missing or do not fit, and what to do."""
    for part in run.load_parts():
        for network in part.infer_networks:
            part.require(part.network_folder(network) / "model.keras", "train")
    run.require(run.output / "thresholds.json", "predict")
    check_predictions(run)
    line.check_line(run)


def check_target(out: Path, source: Path | None = None) -> Path:
    """Give the folder that an inspection of `source` may write, resolved; ConfigError says why it may not."""
    target, root = out.resolve(), files.ROOT.resolve()
    work, written = Path(f"{target}.part"), [target / name for name in dict.fromkeys(PRODUCTS + FORMER)]
    is_mixed = source and (source == target or any(source.is_relative_to(p) for p in (*written, work)))
    others = [path.name for path in work.glob("*") if path.name not in PRODUCTS + FORMER]
    there = ", ".join(path.name for path in written if path.exists())
    for is_wrong, why in (
        (target in (root, *root.parents), f"{target} holds the project"),
        (is_input(out), "input/ is read-only"),
        (is_mixed, "the products would be written over the images"),
        (target.exists() and not target.is_dir(), f"{target} is a file"),
        (others, f"{work}, where the products would be made, holds {', '.join(others[:5])}"),
        (there and not holds_inspection(target), f"{target} holds {there}, which no inspection wrote"),
    ):
        if is_wrong:
            raise ConfigError(f"OUT={out}: {why}; choose another folder")
    return target


def is_input(path: Path) -> bool:
    """Whether a path lies in input/, whose datasets may be links to other disks."""
    inputs = files.ROOT / "input"
    protected = [inputs, *(folder.resolve() for folder in (inputs, *inputs.glob("*")))]
    return any(p.is_relative_to(q) for p in (Path(os.path.abspath(path)), path.resolve()) for q in protected)


def holds_inspection(folder: Path) -> bool:
    """Whether an inspection, of this or an earlier version, wrote its products there."""
    there = {name for name in (*PRODUCTS, *FORMER) if (folder / name).exists()}
    return there >= set(PRODUCTS) or there == set(FORMER)


def name_products(image_ids: Iterable[str]) -> dict[str, str]:
    """Name the products of each image, without suffix, all different, from `flatten_ids` by `name_masks`."""
    flat = flatten_ids(image_ids)
    names = name_masks(flat.values())
    return {image_id: names[name] for image_id, name in flat.items()}


def flatten_ids(image_ids: Iterable[str]) -> dict[str, str]:
    """Give each image a name without folders: "_" for "/", with a number before it where another has it."""
    flat: dict[str, str] = {}
    for image_id in sorted(image_ids, key=lambda i: i.count("/")):
        plain = name = image_id.replace("/", "_")
        number = 1
        while name in flat:
            number += 1
            name = f"{number}_{plain}"
        flat[name] = image_id
    return {image_id: name for name, image_id in flat.items()}


def describe_picture(
    image_id: str, masks: np.ndarray, probs: np.ndarray, defects: pd.DataFrame
) -> dict[str, Any]:
    """Describe one picture: a row of PICTURE_COLUMNS.

    Args:
        masks, probs: (H, W, C); an area counts each pixel once, whatever its classes.
        defects: of `list_defects`.
    """
    height, width = masks.shape[:2]
    area = int(masks.any(axis=2).sum())
    row = {"ImageId": image_id, "verdict": DEFECT if area else OK, "height": height, "width": width}
    row |= {"area": area, "area_percent": 100 * area / (height * width), "components": len(defects)}
    row |= {"largest_probability": float(probs.max())}
    return row | {"classes": "; ".join(dict.fromkeys(defects["class"]))}


def make_picture_table(rows: Sequence[dict[str, Any]], listing: Listing) -> pd.DataFrame:
    """Make the table of all pictures by image id, those skipped last, of `describe_picture`'s rows."""
    unread = [
        {"ImageId": i, "verdict": UNREADABLE, "reason": reason.removeprefix(f"{listing.folder / i}: ")}
        for i, reason in listing.unreadable.items()
    ]
    skipped = [{"ImageId": i, "verdict": SKIPPED, "reason": reason} for i, reason in listing.skipped.items()]
    seen = sorted([*rows, *unread], key=lambda row: row["ImageId"])
    texts = dict.fromkeys(column for column in PICTURE_COLUMNS if column not in NUMBERS)
    told = [dict.fromkeys(texts, "") | row for row in (*seen, *skipped)]
    return pd.DataFrame(told, columns=PICTURE_COLUMNS).astype(NUMBERS | dict.fromkeys(texts, str))


def order_pictures(pictures: pd.DataFrame) -> pd.DataFrame:
    """Order a picture table by VERDICTS: defects first, by their share of the picture, the largest first."""
    ranks = pictures["verdict"].map(VERDICTS.index)
    keys = pd.DataFrame({"rank": ranks, "area": -pictures["area_percent"].fillna(0)})
    return pictures.loc[keys.sort_values(["rank", "area"], kind="stable").index]


@contextmanager
def write_inspection(target: Path) -> Iterator[Path]:
    """Give the folder in which to make all PRODUCTS, with masks/ and overlays/ in it; then swap them in.

    What else `target` holds stays; the products of an earlier inspection go. Where the block fails, `target`
    is as before.
    """
    work = Path(f"{target}.part")
    if work.is_symlink():  # else the products would go where it leads
        work.unlink()
    shutil.rmtree(work, ignore_errors=True)
    for name in PRODUCTS[:2]:
        (work / name).mkdir(parents=True)
    yield work
    if not target.exists():
        work.rename(target)
        return
    for name in PRODUCTS:
        with files.write_atomically(target / name) as part:
            shutil.move(work / name, part)
    work.rmdir()
    (target / FORMER[-1]).unlink(missing_ok=True)


def list_defects(
    image_id: str, masks: np.ndarray, probs: np.ndarray, info: DatasetInfo, mm: float | None = None
) -> pd.DataFrame:
    """List the defects of one image: the connected components (8 neighbours) of each class's mask.

    Args:
        masks, probs: (H, W, C), uint8 in {0, 1} and float in [0, 1]; DefectmillError where they do not fit.
        mm: millimetres a pixel; where it is given, `line.SIZES` come last.
    Returns:
        By class, the largest first: ImageId, ClassId, class (its name), area in pixels, bounding box (top,
        left, height, width) and centroid (row, column), from 0, and the mean probability of the pixels.
    """
    if masks.shape != probs.shape or masks.shape[2] != info.n_classes:
        shapes = f"masks {masks.shape} and probabilities {probs.shape}"
        raise files.DefectmillError(f"{image_id}: {shapes} of {info.n_classes} classes")
    tables = []
    for channel, kind in enumerate(info.classes):
        mask = np.ascontiguousarray(masks[:, :, channel])
        n, components, boxes, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
        found = pd.DataFrame(boxes, columns=["left", "top", "width", "height", "area"])
        found[["centroid_column", "centroid_row"]] = centres
        sums = np.bincount(components.ravel(), probs[:, :, channel].ravel(), n)
        found["mean_probability"] = sums / found["area"]
        found = found.assign(ImageId=image_id, ClassId=kind.id, **{"class": kind.name})
        found = found[1:].sort_values("area", ascending=False, kind="stable")
        tables.append(line.add_sizes(found, components, mm) if mm else found)
    return pd.concat(tables, ignore_index=True)[[*COLUMNS, *(line.SIZES if mm else ())]]


def summarize_defects(defects: pd.DataFrame) -> pd.DataFrame:
    """Count the defects of each class found: defects, images, areas in pixels."""
    by_class = defects.groupby(["ClassId", "class"])
    table = by_class["area"].agg(defects="size", smallest="min", median="median", largest="max")
    table.insert(1, "images", by_class["ImageId"].nunique())
    return table
