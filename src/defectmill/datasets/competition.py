"""Competition folders: the one form in which all datasets are kept."""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.curation.duplicates import find_groups, refuse_one_group, scan_images, tell_parts
from defectmill.curation.folds import assign_folds
from defectmill.dataset_info import DatasetInfo
from defectmill.files import DefectmillError, is_text, write_atomically
from defectmill.images import read_depth, read_image, read_shape, write_image
from defectmill.labels import classes_by_image, masks_to_labels, write_labels
from defectmill.rle import rle_area

NAMED = 5  # images that a note or an error names
MOST = 0.9  # share of all pixels that one class may cover
LEFT_OUT = "without labels, left out"


class DatasetError(DefectmillError):
    """Raw data that cannot be turned into a competition folder: what and where."""


@dataclass(frozen=True)
class Picture:
    """One image of a raw dataset with its masks.

    image: (H, W[, channels]) uint8, or the file to copy byte for byte. masks: (H, W, C) uint8 in {0, 1};
    None: nobody labelled the image, and it is left out. part: "train" or "test"; "" in all pictures: a split
    by group decides. issues: {"what is wrong, and what becomes of it": how many of it}; 0: none was found.
    grey: of interpolated masks, {class id: (pixels above 0, pixels of 255)}. note: how its file was read.
    """

    image_id: str
    image: np.ndarray | Path
    masks: np.ndarray | None
    part: str = ""
    issues: dict[str, int] = field(default_factory=dict)
    grey: dict[int, tuple[int, int]] = field(default_factory=dict)
    note: str = ""


def write_competition(
    pictures: Iterable[Picture], info: DatasetInfo, folder: Path, test_share: int = 5
) -> None:
    """Write a competition folder; it appears under its name only when it is whole.

    issues.csv has the columns finding, ImageId, value (how many of it); no ImageId: none was found.

    Args:
        info: for dataset.json; notes on the issues and on the split are added to its notes.
        test_share: where no picture has a part, one group in this many becomes the test part.
    Raises:
        DatasetError: no images, an image id twice, a part for some images only, no defect in any image, or
            a class that covers nearly everything.
    """
    with write_atomically(folder) as work:
        train, test = work / "train_images", work / "test_images"
        train.mkdir(parents=True)
        test.mkdir()
        seen: list[Picture] = []
        labels = masks_to_labels(_store(pictures, train, seen))
        if labels.empty:
            raise DatasetError(f"{info.name}: the raw folder holds no images")
        _refuse_odd_labels(labels, train, info)
        issues, info = _list_issues(seen), _drop_bits(train, info)
        notes = [*info.notes, *dict.fromkeys(picture.note for picture in seen if picture.note)]
        notes += [_tell(what, counts) for what, counts in issues.items() if counts]
        parts = {picture.image_id: picture.part for picture in seen if LEFT_OUT not in picture.issues}
        if not any(parts.values()):
            parts, note = _split_by_group(train, labels, info, test_share)
            notes.append(note)
        elif not all(parts.values()):
            without = next(image_id for image_id, part in parts.items() if not part)
            raise DatasetError(f"{without} has no part (train or test), though other images have one")
        in_test = labels["ImageId"].map(parts) == "test"
        for image_id in labels.loc[in_test, "ImageId"].unique():
            (train / image_id).rename(test / image_id)
        write_labels(labels[~in_test], work / "train.csv", info.layout)
        # Clean images too, whatever the layout: the solution tells which images are asked for.
        write_labels(labels[in_test], work / "solution.csv", "2019")
        write_labels(labels[in_test].assign(EncodedPixels="1 1"), work / "sample_submission.csv", info.layout)
        issues |= _compare_greys(seen)
        rows = [(what, i, n) for what, counts in issues.items() for i, n in (counts or {"": 0}).items()]
        table = pd.DataFrame(rows, columns=["finding", "ImageId", "value"])
        table.to_csv(work / "issues.csv", index=False, lineterminator="\n")
        if (folder / "info.json").is_file():
            shutil.copyfile(folder / "info.json", work / "info.json")
        write_info(info.model_copy(update={"notes": tuple(notes)}), work)


def write_info(info: DatasetInfo, folder: Path) -> None:
    """Write dataset.json into a competition folder."""
    text = json.dumps(info.model_dump(), indent=1) + "\n"
    (folder / "dataset.json").write_text(text, encoding="utf-8", newline="")


def name_some(names: Sequence[str], most: int) -> str:
    """Join the first names; dots stand for more of them."""
    return ", ".join(names[:most]) + ", ..." * (len(names) > most)


def _store(pictures: Iterable[Picture], folder: Path, seen: list[Picture]) -> Iterator[tuple]:
    """Write one image after the other; give (image id, masks), and add the picture without them to `seen`."""
    for picture in pictures:
        if picture.masks is None:
            seen.append(Picture(picture.image_id, folder, None, issues={LEFT_OUT: 1}))
            continue
        if "/" in picture.image_id or not is_text(picture.image_id):
            raise DatasetError(f"{picture.image_id!r} is no name of a file, or no text in UTF-8; rename it")
        target = folder / picture.image_id
        if target.exists():
            shown = f"{picture.image}: " * isinstance(picture.image, Path)
            raise DatasetError(f"{shown}two images are called {picture.image_id}; rename one, and its mask")
        if isinstance(picture.image, Path):
            read_image(picture.image)  # what cannot be used is named by its raw file
            shutil.copyfile(picture.image, target)
        else:
            write_image(target, picture.image)
        seen.append(replace(picture, image=target, masks=None))
        yield picture.image_id, picture.masks


def _refuse_odd_labels(labels: pd.DataFrame, folder: Path, info: DatasetInfo) -> None:
    areas = labels["EncodedPixels"].map(rle_area).groupby(labels["ClassId"]).sum()
    if not areas.any():
        offence = f"none of {labels['ImageId'].nunique()} images has a defect"
        raise DatasetError(f"{info.name}: {offence}; a dataset needs some")
    pixels = sum(height * width for height, width in map(read_shape, folder.iterdir()))
    if areas.max() > MOST * pixels:
        name, share = info.class_names[areas.argmax()], areas.max() / pixels
        offence = f"{info.name}: class {name!r} covers {share:.1%} of all pixels"
        raise DatasetError(f"{offence}: is it the background, or are the masks inverted?")


def _drop_bits(folder: Path, info: DatasetInfo) -> DatasetInfo:
    """Bring images of 16 bits a channel to 8, all by one depth: what the brightest of them needs."""
    depths = {path: read_depth(np.fromfile(path, np.uint8), path) for path in sorted(folder.iterdir())}
    deep = [path for path, depth in depths.items() if depth > 8]
    if not deep:
        return info
    bits = info.bits or max(depths.values())
    for path in deep:
        image = read_image(path, 3, bits)
        write_image(path, image[..., :1] if (image == image[..., :1]).all() else image)
    note = f"images of over 8 bits a channel, read as {bits} bits: {len(deep)}"
    return info.model_copy(update={"bits": bits, "notes": (*info.notes, note)})


def _list_issues(seen: list[Picture]) -> dict[str, dict[str, int]]:
    """Collect {finding: {image id: how many}}; empty where it was looked for and not found."""
    issues: dict[str, dict[str, int]] = {LEFT_OUT: {}}
    for picture in seen:
        for finding, count in picture.issues.items():
            issues.setdefault(finding, {}).update({picture.image_id: count} if count else {})
    return issues


def _tell(finding: str, counts: dict[str, int]) -> str:
    named = name_some([*counts], NAMED)
    return f"{finding}: {sum(counts.values())}, in {len(counts)} images ({named})"


def _compare_greys(seen: list[Picture]) -> dict[str, dict[str, int]]:
    """Count by class and image the pixels of grey masks between 0 and 255, in the form of `_list_issues`."""
    issues = {}
    for class_id in sorted({class_id for picture in seen for class_id in picture.grey}):
        areas = {picture.image_id: picture.grey[class_id] for picture in seen if class_id in picture.grey}
        above, full = np.sum([*areas.values()], axis=0)
        ratio = f"{above / full:.2f} times" if full else "all of"
        finding = f"grey mask of class {class_id}, area at > 0 is {ratio} that at == 255"
        issues[finding] = {image_id: int(a - b) for image_id, (a, b) in areas.items() if a > b}
    return issues


def _split_by_group(folder: Path, labels: pd.DataFrame, info: DatasetInfo, share: int) -> tuple[dict, str]:
    """Choose the test part: {image id: part}, and a note that tells how."""
    table = classes_by_image(labels)
    scan = scan_images(folder, table["ImageId"].tolist())
    table["group"] = find_groups(scan, info)
    refuse_one_group(table["group"].to_numpy(), scan, info)
    n_all = table["group"].nunique()
    share = min(share, n_all)
    in_test = assign_folds(table, share, seed=0) == 0
    n_test = table["group"][in_test].nunique()
    note = f"test part: fold 0 of {share} by group, {in_test.sum()} images in {n_test} groups"
    note = f"{len(table)} images in {n_all} groups; {note}"
    fits = table.index.isin(tell_parts(info, table["ImageId"]).index)
    if info.group_pattern and not fits.all():
        other = table["ImageId"][~fits].iloc[0]
        note += f"; group_pattern fits {fits.sum()} of {len(fits)} file names, not {other}"
    return dict(zip(table["ImageId"], np.where(in_test, "test", "train").tolist(), strict=True)), note
