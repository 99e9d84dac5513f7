"""MVTec AD, tile: as MVTec ships it (tile/{ground_truth,test,train}), or with colour masks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from defectmill.cards import Card
from defectmill.datasets import colour_masks
from defectmill.datasets.competition import DatasetError, Picture
from defectmill.datasets.pairs import pair_files, read_grey_pair
from defectmill.images import list_images, read_shape

NOTES = ()


def read_raw(raw: Path, card: Card) -> Iterator[Picture]:
    """Read either layout; MVTec's own file names repeat, so the folder comes into the image id.

    Raises:
        DatasetError: a class folder is missing or not a class, an orphan, sizes that differ.
    """
    tile = raw / "tile" if (raw / "tile").is_dir() else raw
    if not (tile / "ground_truth").is_dir():
        yield from colour_masks.read_raw(raw, card)
        return
    known = set(card.class_names)
    for folder in sorted((tile / "ground_truth").iterdir()):
        if folder.name not in known:
            raise DatasetError(f"{folder}: not a class; there are: {', '.join(sorted(known))}")
    for channel, name in enumerate(card.class_names):
        pairs = pair_files(tile / "test" / name, tile / "ground_truth" / name, "_mask")
        for image, mask in pairs:
            picture = read_grey_pair(image, mask, channel, len(card.classes))
            yield replace(picture, image_id=f"{name}_{image.name}")
    for part in ("test", "train"):
        folder = tile / part / "good"
        for name in list_images(folder) if folder.is_dir() else []:
            masks = np.zeros((*read_shape(folder / name), len(card.classes)), np.uint8)
            yield Picture(f"good_{part}_{name}", folder / name, masks)
