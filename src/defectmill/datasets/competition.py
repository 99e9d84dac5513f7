"""Competition folders: the one form in which all datasets are kept."""

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.cards import Card
from defectmill.folds import assign_folds
from defectmill.groups import find_groups
from defectmill.image_table import classes_by_image
from defectmill.images import write_image
from defectmill.labels import COLUMNS, write_labels
from defectmill.rle import mask_to_rle
from defectmill.shots import read_shots

NAMED = 5  # pictures that a note names
LEFT_OUT = "without labels, left out"


class DatasetError(ValueError):
    """Raw data that cannot be turned into a competition: what and where."""


@dataclass
class Picture:
    """One picture of a raw dataset.

    image: (H, W[, ch]) uint8, or the file to copy byte for byte. masks: (H, W, C) uint8 in
    {0, 1}; None: nobody labelled it, and it is left out. part: "train" or "test"; "" leaves the
    choice to a split by group. odd: what is strange in it, "what, and what becomes of it": how many
    of it; 0 says that it was looked for. grey: of an interpolated mask, {class id: pixels above 0,
    pixels of 255}.
    """

    image_id: str
    image: np.ndarray | Path
    masks: np.ndarray | None
    part: str = ""
    odd: dict[str, int] = field(default_factory=dict)
    grey: dict[int, tuple[int, int]] = field(default_factory=dict)


def write_competition(
    pictures: Iterable[Picture], card: Card, folder: Path, test_share: int = 5
) -> None:
    """Write a competition folder; it appears under its name only when it is whole.

    odd.csv names every picture in which something was odd: finding, ImageId, value (how many of
    it); no ImageId: looked for, and nothing found.

    Args:
        card: its notes come first, then what was odd, then how the test part was chosen.
        test_share: one group in this many becomes the test part, where the dataset has none.
    Raises:
        DatasetError: no pictures, an image id twice, or a part for some pictures only.
    """
    work = folder.with_name(folder.name + ".part")
    shutil.rmtree(work, ignore_errors=True)
    for part in ("train", "test"):
        (work / f"{part}_images").mkdir(parents=True)
    rows, parts, odd, grey = [], {}, {LEFT_OUT: {}}, {}
    for picture in pictures:
        if picture.masks is None:
            odd[LEFT_OUT][picture.image_id] = 1
            continue
        if picture.image_id in parts:
            raise DatasetError(f"two pictures are called {picture.image_id}")
        parts[picture.image_id] = picture.part
        for what, count in picture.odd.items():
            odd.setdefault(what, {})
            if count:
                odd[what][picture.image_id] = count
        for class_id, areas in picture.grey.items():
            grey.setdefault(class_id, {})[picture.image_id] = areas
        target = work / "train_images" / picture.image_id
        if isinstance(picture.image, Path):
            shutil.copyfile(picture.image, target)
        else:
            write_image(target, picture.image)
        rows += [
            (picture.image_id, channel + 1, mask_to_rle(picture.masks[:, :, channel]))
            for channel in range(len(card.classes))
        ]
    if not rows:
        raise DatasetError(f"{card.name}: the raw folder holds no pictures")
    labels = pd.DataFrame(rows, columns=COLUMNS[:3])
    labels["hasMask"] = labels["EncodedPixels"] != ""
    notes = [*card.notes, *(_tell(what, counts) for what, counts in odd.items() if counts)]
    for class_id, areas in sorted(grey.items()):
        above, full = np.sum([*areas.values()], axis=0)
        ratio = f"{above / full:.2f} times" if full else "all of"
        what = f"grey mask of class {class_id}, area at > 0 is {ratio} that at == 255"
        odd[what] = {image_id: int(a - b) for image_id, (a, b) in areas.items() if a > b}
    if any(parts.values()) and not all(parts.values()):
        chosen = [i for i, part in parts.items() if not part]
        raise DatasetError(f"{chosen[0]} has no part where others have one")
    if not any(parts.values()):
        parts, note = _split_by_group(work / "train_images", labels, card, test_share)
        notes.append(note)
    in_test = labels["ImageId"].map(parts) == "test"
    for image_id in [i for i, part in parts.items() if part == "test"]:
        (work / "train_images" / image_id).rename(work / "test_images" / image_id)
    write_labels(labels[~in_test], work / "train.csv", card.layout)
    # Always with the clean images: a solution of defects only would not tell who is asked for.
    write_labels(labels[in_test], work / "solution.csv", "2019")
    sample = labels[in_test].assign(EncodedPixels="1 1")
    write_labels(sample, work / "sample_submission.csv", card.layout)
    listed = [(w, i, n) for w, counts in odd.items() for i, n in (counts or {"": 0}).items()]
    found = pd.DataFrame(listed, columns=["finding", "ImageId", "value"])
    found.to_csv(work / "odd.csv", index=False, lineterminator="\n")
    described = card.model_copy(update={"notes": tuple(notes)})
    (work / "dataset.json").write_text(json.dumps(described.model_dump(), indent=1) + "\n")
    if (folder / "card.json").is_file():
        shutil.copyfile(folder / "card.json", work / "card.json")
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)


def _tell(what: str, counts: dict[str, int]) -> str:
    named = ", ".join([*counts][:NAMED]) + (", ..." if len(counts) > NAMED else "")
    return f"{what}: {sum(counts.values())}, in {len(counts)} pictures ({named})"


def _split_by_group(
    folder: Path, labels: pd.DataFrame, card: Card, test_share: int
) -> tuple[dict[str, str], str]:
    table = classes_by_image(labels)
    table["group"] = find_groups(read_shots(folder, table["ImageId"].tolist()), card)
    table["test"] = assign_folds(table, test_share, seed=0) == 0
    note = (
        f"{len(table)} pictures in {table['group'].nunique()} groups; test part: fold 0 of "
        f"{test_share} by group, {table['test'].sum()} pictures in "
        f"{table.loc[table['test'], 'group'].nunique()} groups"
    )
    return dict(zip(table["ImageId"], np.where(table["test"], "test", "train"), strict=True)), note
