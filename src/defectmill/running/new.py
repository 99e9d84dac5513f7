"""A dataset of one's own: what is in a folder or file, its description, and an experiment that learns.

What is found is told and written to input/<name>/info.json, for a person to mend: names of classes, groups.
"""

import colorsys
import json
import re
from collections import Counter
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from defectmill import files
from defectmill.config import list_experiments, load_experiment
from defectmill.curation.duplicates import find_groups, scan_images
from defectmill.dataset_info import Colour, DatasetInfo, builtin_datasets, read_dataset_info
from defectmill.datasets.folder import find_mvtec
from defectmill.datasets.pairs import find_pairs
from defectmill.datasets.prepare import prepare
from defectmill.files import DefectmillError, write_if_changed
from defectmill.formats import READERS, find_sources
from defectmill.formats.masks import find_classes, survey_masks
from defectmill.images import BLACK, list_images, read_shape
from defectmill.labels import find_overlaps, read_labels
from defectmill.products.inputs import check_unedited, note_made
from defectmill.rle import rle_area
from defectmill.running.notebooks import run_notebook

# File names that tell the part: copies end with its name (warped_7_cut_4), crops begin with it (shot9_0_721).
PATTERNS = (r"([A-Za-z]+_\d+)\.\w+$", r"^(.+?)(?:_\d+){2}\.\w+$")


def make_new(name: str, raw: str, budget: str) -> Path:
    """Make input/<name> of a folder or file, and notebooks/experiments/<name>.yml that fits it and a budget.

    Raises:
        DefectmillError: a name that is taken or none, an input/<name> that was made or mended by hand, or
            data that cannot be read: info.json stays, to be mended.
    """
    folder = files.ROOT / "input" / name
    experiment = files.ROOT / "notebooks" / "experiments" / f"{name}.yml"
    _check_name(name, experiment)
    if not (raw and Path(raw).expanduser().exists()):
        raise DefectmillError(
            f"RAW={raw}: no such file or folder; say make new NAME={name} RAW=<folder or file>"
        )
    source = Path(raw).expanduser().resolve()
    check_unedited(folder)
    written = folder / "info.json"
    if written.is_file():
        print(f"{written.relative_to(files.ROOT)} is taken as it stands")
    else:
        try:
            info = describe(name, source)
        except ValidationError as error:
            why = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise DefectmillError(
                f"{source}: cannot be described: {why}: rename the classes there"
            ) from error
        write_if_changed(written, json.dumps(info.model_dump(exclude_defaults=True), indent=1) + "\n")
    try:
        prepare(name, str(source))
    except DefectmillError as error:
        shown = written.relative_to(files.ROOT)
        raise DefectmillError(f"{error}\nmend {shown} or the files, then run make new once more") from error
    note_made(folder, str(source))
    n_groups = tell(folder)
    write_if_changed(experiment, f"dataset: {name}\nlabels: {{n_folds: {min(5, n_groups)}}}\n")
    try:
        _plan(name, experiment, budget)
    except BaseException:
        experiment.unlink(missing_ok=True)
        raise
    return experiment


def _check_name(name: str, experiment: Path) -> None:
    files.check_name(name, "NAME")
    if name in builtin_datasets() or name in list_experiments():
        raise DefectmillError(f"NAME={name}: is taken; choose another, or delete {experiment}")


def describe(name: str, raw: Path) -> DatasetInfo:
    """Find out in what form a folder or file is annotated, and which classes it has.

    Raises:
        DefectmillError: nothing that is known, or more than one thing.
    """
    sources = find_sources(raw)
    if len(sources) > 1:
        way_out = "say which by RAW=<the file or folder of one>"
        raise DefectmillError(f"{raw}: is annotated in several formats, {' and '.join(sources)}; {way_out}")
    if sources:
        ((form, source),) = sources.items()
        found = list(source.read())
        names = [one.image.name for one in found]
        return _make_info(name, list(source.classes), list(source.colours), form=form, files=names)
    if home := find_mvtec(raw, name):
        return _make_info(name, sorted(p.name for p in (home / "ground_truth").glob("[!.]*/")), [], files=[])
    pairs = find_pairs(raw) if raw.is_dir() else []
    paths = [path for pair in pairs for masks in pair.masks.values() for path in masks]
    if not paths:
        seen = "" if raw.is_file() else f"{len(pairs)} images and "
        known = f"read are folders of images and masks, {', '.join(READERS)}; unpack a zip first"
        raise DefectmillError(f"{raw}: holds {seen}no masks or annotations of a known format: {known}")
    classes = sorted({key for pair in pairs for key in pair.masks} - {""})
    survey, images = survey_masks(paths), [pair.image.name for pair in pairs]
    print(f"{raw}: {len(pairs)} images, {survey.seen}")
    if classes:
        return _make_info(name, classes, [], files=images)
    kinds = find_classes(survey)
    words = [f"class {i}" for i in range(1, len(kinds) + 1)] if len(kinds) > 1 else ["defect"]
    colours = [] if kinds[0][0] == BLACK else [colour for colour, _ in kinds]
    if len(kinds) > 1 and kinds[0][1]:
        print("each number is taken as a class; of instances of one class keep that one alone in info.json")
    info = _make_info(name, words, colours, files=images)
    valued = [kind.model_copy(update={"value": v}) for kind, (_, v) in zip(info.classes, kinds, strict=True)]
    return info.model_copy(update={"classes": tuple(valued)})


def _make_info(
    name: str, classes: list[str], colours: list[Colour], form: str = "", *, files: list[str]
) -> DatasetInfo:
    drawn = colours if len(set(colours) - {BLACK}) == len(classes) else spread_colours(len(classes))
    kinds = [
        {"id": i, "name": n, "colour": c} for i, (n, c) in enumerate(zip(classes, drawn, strict=True), 1)
    ]
    pattern = guess_groups(files)
    values = {"name": name, "title": name, "classes": kinds, "format": form, "group_pattern": pattern}
    return DatasetInfo.model_validate({**values, "layout": "current"})


def spread_colours(n: int) -> list[Colour]:
    """Choose n different bright colours, for classes that have none."""
    shades = [colorsys.hsv_to_rgb((0.6180339887 * i) % 1, 0.75 - 0.25 * (i % 2), 1) for i in range(n)]
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in shades]


def guess_groups(names: list[str]) -> str:
    """Guess a pattern for the part that a file name tells, where several names share one; else "".

    A pattern is taken where it fits all names, some share a part, and there are a quarter as many parts as
    images at least, and three.
    """
    for pattern in PATTERNS:
        found = [match[1] for name in names if (match := re.search(pattern, name))]
        parts = len(set(found))
        if len(found) == len(names) and max(3, len(names) / 4) <= parts < len(names):
            return pattern
    return ""


def tell(folder: Path) -> int:
    """Print what a new competition folder holds; give the number of groups of its training images."""
    info = read_dataset_info(folder / "dataset.json")
    ids = list_images(folder / "train_images")
    labels = read_labels(folder / "train.csv", ids, info.n_classes)
    if info.exclusive and find_overlaps(labels):
        print("classes overlap: a pixel may belong to several")
        info = info.model_copy(update={"exclusive": False})
        for name in ("info.json", "dataset.json"):
            values = {**json.loads((folder / name).read_text(encoding="utf-8")), "exclusive": False}
            (folder / name).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    sizes = Counter(read_shape(folder / "train_images" / image_id) for image_id in ids)
    (height, width), n = sizes.most_common(1)[0]
    others = f", and {len(sizes) - 1} other sizes" * (len(sizes) > 1)
    print(f"{len(ids)} training images, {n} of {height} x {width} (height x width){others}")
    areas = labels["EncodedPixels"].map(rle_area)
    rows = []
    for kind in info.classes:
        mine = areas[(labels["ClassId"] == kind.id) & (areas > 0)]
        median = int(mine.median()) if len(mine) else 0
        rows.append((kind.id, kind.name, kind.colour, kind.value, len(mine), median))
    columns = ["id", "class", "colour", "value", "images", "median area"]
    table = pd.DataFrame(rows, columns=columns).dropna(axis=1, how="all")
    print(table.to_string(index=False))
    print(f"another name or colour? change {folder.relative_to(files.ROOT)}/info.json, then make with RAW")
    groups = find_groups(scan_images(folder / "train_images", ids), info)
    told = f" by their names ({info.group_pattern})" * bool(info.group_pattern)
    print(f"{len(set(groups.tolist()))} groups of images that show one part{told}; no group is in two folds")
    return len(set(groups.tolist()))


def _plan(name: str, experiment: Path, budget: str) -> None:
    """Make the tables of 02, then settings by the measured speed of this machine."""
    from defectmill.training.cost import print_plan

    run = load_experiment(name)
    run_notebook("02_labels", run, {"overrides": {}})
    plan = print_plan(run, {}, budget).read_text(encoding="utf-8")
    command = f"# Made by: make new NAME={name} RAW=<folder or file> BUDGET={budget}\n"
    write_if_changed(experiment, command + plan)
