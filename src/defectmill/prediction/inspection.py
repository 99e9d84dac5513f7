"""Inspections: a folder of images in; masks, overlays and tables of defects out, by way of <out>.part."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from defectmill import files
from defectmill.config import ConfigError, Experiment
from defectmill.dataset_info import DatasetInfo
from defectmill.images import colours_from_masks, list_images, name_masks, overlay, read_image, write_image
from defectmill.labels import masks_to_labels, write_labels
from defectmill.prediction.postprocess import ClassThreshold, Maps, make_masks

PRODUCTS = ("masks", "overlays", "runs.csv", "defects.csv", "skipped.csv")
COLUMNS = ["ImageId", "ClassId", "class", "area", "top", "left", "height", "width"]
COLUMNS += ["centroid_row", "centroid_column", "mean_probability"]


def check_inspection(run: Experiment, images: str, out: str) -> tuple[Path, Path]:
    """Check which folder an inspection reads and which it writes, and give both as absolute paths.

    Relative ones begin at the project's. ConfigError says what to do where there is no model, no thresholds
    or no image, or where `out` holds what no inspection wrote and would be written over.
    """
    for part in run.load_parts():
        for network in part.infer_networks:
            part.require(part.network_folder(network) / "model.keras", "train")
    run.require(run.output / "thresholds.json", "predict")
    if not (images and out):
        raise ConfigError("say IMAGES=<folder of images> OUT=<folder to write>")
    source, named = (files.ROOT / Path(folder).expanduser() for folder in (images, out))
    source, target, root = source.resolve(), named.resolve(), files.ROOT.resolve()
    inputs = files.ROOT / "input"  # a dataset there may be a link to another disk
    protected = [inputs, *(path.resolve() for path in (inputs, *inputs.glob("*")))]
    is_input = any(p.is_relative_to(q) for p in (Path(os.path.abspath(named)), target) for q in protected)
    work, written = Path(f"{target}.part"), [target / name for name in PRODUCTS]
    is_mixed = source == target or any(source.is_relative_to(path) for path in (*written, work))
    others = [path.name for path in work.glob("*") if path.name not in PRODUCTS]
    there = [path.name for path in written if path.exists()]
    for is_wrong, why in (
        (not source.is_dir(), f"{source} is no folder"),
        (source.is_dir() and not list_images(source), f"{source} holds no image; subfolders are not read"),
        (target in (root, *root.parents), f"{target} holds the project"),
        (is_input, "input/ is read-only"),
        (is_mixed, "the products would be written over the images"),
        (target.exists() and not target.is_dir(), f"{target} is a file"),
        (others, f"{work}, where the products would be made, holds {', '.join(others[:5])}"),
        (0 < len(there) < len(PRODUCTS), f"{target} holds {', '.join(there)}, which no inspection wrote"),
    ):
        if is_wrong:
            raise ConfigError(f"IMAGES={images} OUT={out}: {why}; choose another folder")
    return source, target


def inspect_pictures(
    maps: Maps, thresholds: Sequence[ClassThreshold], info: DatasetInfo, source: Path, target: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write mask and overlay of each image to <target>.part, emptied first; give label and defect table.

    `source` and `target` are as `check_inspection` gives them.
    """
    work, names = Path(f"{target}.part"), name_masks(list_images(source))
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("masks", "overlays"):
        (work / folder).mkdir(parents=True)
    tables, defects = [masks_to_labels([])], []
    for image_id, probs in maps:
        masks, name = make_masks(probs, thresholds, info.exclusive), names[image_id]
        tinted = overlay(read_image(source / image_id, 3), masks, info.colours)
        write_image(work / "masks" / f"{name}.png", colours_from_masks(masks, info.colours))
        write_image(work / "overlays" / f"{name}.jpg", tinted)
        tables.append(masks_to_labels([(image_id, masks)]))
        defects += list_defects(image_id, masks, probs, info).to_dict("records")
    return pd.concat(tables, ignore_index=True), pd.DataFrame(defects, columns=COLUMNS)


def write_inspection(
    labels: pd.DataFrame, defects: pd.DataFrame, skipped: Mapping[str, str], info: DatasetInfo, target: Path
) -> None:
    """Write the tables, reasons of `skipped` by image id among them, to <target>.part and swap it in.

    What else `target` holds stays; the products of an earlier inspection go.
    """
    work, reasons = Path(f"{target}.part"), pd.DataFrame(skipped.items(), columns=["ImageId", "reason"])
    write_labels(labels, work / "runs.csv", info.layout)
    defects.round(4).to_csv(work / "defects.csv", index=False, lineterminator="\n")
    reasons.to_csv(work / "skipped.csv", index=False, lineterminator="\n")
    if not target.exists():
        work.rename(target)
        return
    for name in PRODUCTS:
        with files.write_atomically(target / name) as part:
            shutil.move(work / name, part)
    work.rmdir()


def list_defects(image_id: str, masks: np.ndarray, probs: np.ndarray, info: DatasetInfo) -> pd.DataFrame:
    """List the defects of one image: the connected components (8 neighbours) of each class's mask.

    Args:
        masks, probs: (H, W, C), uint8 in {0, 1} and float in [0, 1]; DefectmillError where they do not fit.
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
        tables.append(found[1:].sort_values("area", ascending=False, kind="stable"))
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def summarize_defects(defects: pd.DataFrame) -> pd.DataFrame:
    """Count the defects of each class found: defects, images, areas in pixels."""
    by_class = defects.groupby(["ClassId", "class"])
    table = by_class["area"].agg(defects="size", smallest="min", median="median", largest="max")
    table.insert(1, "images", by_class["ImageId"].nunique())
    return table
