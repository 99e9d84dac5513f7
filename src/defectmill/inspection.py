"""Inspections: a folder of pictures in; masks, overlays and tables of their defects out.

Everything is written into <out>.part, which takes its place, or whose parts do, once it is whole.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.cards import Card
from defectmill.config import ROOT, ConfigError, Experiment
from defectmill.defects import COLUMNS, list_defects
from defectmill.images import list_images, name_masks, read_image, write_image
from defectmill.labels import write_labels
from defectmill.overlays import overlay
from defectmill.palette import colours_from_masks
from defectmill.postprocess import Rule, make_masks, masks_to_labels

PRODUCTS = ("masks", "overlays", "runs.csv", "defects.csv", "skipped.csv")


def check_inspection(experiment: Experiment, images: str, out: str) -> tuple[Path, Path]:
    """Check what an inspection reads and where it writes; both folders, whole.

    Args:
        images, out: folders; relative ones begin at the project's.
    Raises:
        ConfigError: no model or no thresholds, no pictures, or an `out` that would write over
            what no inspection wrote; with what to do.
    """
    for name, target in (("model.keras", "train"), ("thresholds.json", "predict")):
        if not (experiment.output / name).is_file():
            todo = f"make {target} EXPERIMENT={experiment.name}"
            raise ConfigError(f"{experiment.output / name} is missing: `{todo}` first")
    if not (images and out):
        raise ConfigError("say IMAGES=<folder of pictures> OUT=<folder to write>")
    named = ROOT / Path(out).expanduser()
    source, target = (ROOT / Path(images).expanduser()).resolve(), named.resolve()
    if not source.is_dir():
        raise ConfigError(f"IMAGES={images}: {source} is no folder")
    if not list_images(source):
        raise ConfigError(f"IMAGES={images}: {source} holds no picture; subfolders are not read")
    if target in (ROOT.resolve(), *ROOT.resolve().parents):
        raise ConfigError(f"OUT={out}: say a folder of its own")
    # A dataset in input/ may be a link to another disk.
    protected = [ROOT / "input", *(ROOT / "input").glob("*")]
    if any(target.is_relative_to(path.resolve()) for path in protected) or Path(
        os.path.abspath(named)
    ).is_relative_to(ROOT / "input"):
        raise ConfigError(f"OUT={out}: input/ is read-only; choose another folder")
    written = [target / name for name in PRODUCTS] + [_work_folder(target)]
    if source == target or any(source.is_relative_to(path) for path in written):
        raise ConfigError(f"OUT={out} would write over IMAGES={images}; choose another folder")
    if target.exists() and not target.is_dir():
        raise ConfigError(f"OUT={out}: {target} is a file; choose another name")
    work = _work_folder(target)
    strange = [p.name for p in work.iterdir() if p.name.removeprefix("old ") not in PRODUCTS
               ] if work.is_dir() else []  # fmt: skip
    if strange:
        raise ConfigError(f"OUT={out}: {work}, where it would work, holds {strange[0]}; choose "
                          "another folder")  # fmt: skip
    there = [path.name for path in written[:-1] if path.exists()]
    if there and len(there) < len(PRODUCTS):
        raise ConfigError(
            f"OUT={out} holds {', '.join(there)}, which no inspection wrote; choose another folder"
        )
    return source, target


def inspect_pictures(
    maps: Iterable[tuple[str, np.ndarray]], rules: Sequence[Rule], card: Card, source: Path,
    target: Path,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Write mask and overlay of each picture into the work folder, emptied first.

    Args:
        maps: (image id, (H, W, C) probabilities); one is held at a time.
        source, target: as `check_inspection` gives them.
    Returns:
        Label table and defect table.
    """
    work = _work_folder(target)
    shutil.rmtree(work, ignore_errors=True)
    for name in ("masks", "overlays"):
        (work / name).mkdir(parents=True)
    names = name_masks(list_images(source))
    tables, defects = [], []
    for image_id, probs in maps:
        masks, name = make_masks(probs, rules, card.exclusive), names[image_id]
        colours = colours_from_masks(masks, card.colours)
        write_image(work / "masks" / f"{name}.png", colours)
        tinted = overlay(read_image(source / image_id, 3), masks, card)
        write_image(work / "overlays" / f"{name}.jpg", tinted)
        tables.append(masks_to_labels([(image_id, masks)]))
        defects.append(list_defects(image_id, masks, probs, card))
    found = [table for table in defects if len(table)] or [pd.DataFrame(columns=COLUMNS)]
    return (
        pd.concat(tables or [masks_to_labels([])], ignore_index=True),
        pd.concat(found, ignore_index=True),
    )


def write_inspection(
    labels: pd.DataFrame, defects: pd.DataFrame, skipped: Mapping[str, str], card: Card,
    target: Path,
) -> None:  # fmt: skip
    """Write the tables into the work folder and put it, or each of its parts, in its place.

    Args:
        skipped: reasons by image id.
        target: what else it holds stays; the products of an earlier inspection go.
    """
    work = _work_folder(target)
    write_labels(labels, work / "runs.csv", card.layout)
    defects.round(4).to_csv(work / "defects.csv", index=False, lineterminator="\n")
    reasons = pd.DataFrame(skipped.items(), columns=["ImageId", "reason"])
    reasons.to_csv(work / "skipped.csv", index=False, lineterminator="\n")
    if not target.exists():
        work.rename(target)
        return
    for name in PRODUCTS:
        if (target / name).exists():
            shutil.move(target / name, work / f"old {name}")
        shutil.move(work / name, target / name)
    shutil.rmtree(work)


def _work_folder(target: Path) -> Path:
    return target.with_name(target.name + ".part")
