"""Magnetic tiles (Huang et al. 2018): MT_<Class>/Imgs/<name>.jpg with the mask <name>.png.

Masks are grey with interpolated edges; from 128 on a pixel is defect. The area of a class
changes by a factor of 2.7 between "> 0" and "== 255"; 128 is the middle of the edge.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from defectmill.cards import Card
from defectmill.datasets.competition import DatasetError, Picture
from defectmill.images import read_image

EDGE = 128
NOTES = (f"masks binarised at {EDGE}",)


def read_raw(raw: Path, card: Card) -> Iterator[Picture]:
    """Read the raw folder, class by class.

    Raises:
        DatasetError: a class folder is missing, a picture without a mask or the reverse, or a
            mask of another size than its picture.
    """
    for channel, name in [*enumerate(card.class_names), (None, "free")]:
        folder = raw / f"MT_{name.capitalize()}" / "Imgs"
        if not folder.is_dir():
            found = ", ".join(sorted(p.name for p in raw.iterdir())) or "nothing"
            raise DatasetError(f"{folder}: no such folder; {raw} holds {found}")
        pictures = {p.stem: p for p in sorted(folder.glob("*.jpg"))}
        masks = {p.stem: p for p in sorted(folder.glob("*.png"))}
        for stem in sorted(pictures.keys() ^ masks.keys()):
            lacks = "mask" if stem in pictures else "picture"
            raise DatasetError(f"{folder / stem}: has no {lacks}")
        for stem, path in pictures.items():
            yield _read_pair(path, masks[stem], channel, len(card.classes))


def _read_pair(path: Path, mask_path: Path, channel: int | None, n_classes: int) -> Picture:
    shape = read_image(path).shape[:2]
    mask = read_image(mask_path)[:, :, 0]
    if mask.shape != shape:
        raise DatasetError(f"{mask_path}: a mask of {mask.shape} for a picture of {shape}")
    masks = np.zeros((*shape, n_classes), np.uint8)
    if channel is not None:
        masks[:, :, channel] = mask >= EDGE
    elif (mask >= EDGE).any():
        raise DatasetError(f"{mask_path}: a part without a defect has defect pixels")
    empty = channel is not None and not masks.any()
    odd = {"empty mask in a defect class, counts as clean": 1} if empty else {}
    return Picture(path.name, path, masks, odd=odd)
