"""Magnetic tiles (Huang et al. 2018): MT_<Class>/Imgs/<name>.jpg with the mask <name>.png.

Masks are grey with interpolated edges; from 128 on a pixel is defect. The area of a class
changes by a factor of up to 2.9 between "> 0" and "== 255"; 128 is the middle of the edge.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from defectmill.cards import Card
from defectmill.datasets.competition import DatasetError, Picture
from defectmill.datasets.pairs import EDGE, REFUSED, check_shapes, read_grey_pair, refuse_orphans
from defectmill.images import read_image

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
        refuse_orphans([pictures[stem] for stem in pictures if stem not in masks], "mask")
        refuse_orphans([masks[stem] for stem in masks if stem not in pictures], "picture")
        for stem, path in pictures.items():
            if channel is None:
                yield _read_free(path, masks[stem], len(card.classes))
            else:
                yield read_grey_pair(path, masks[stem], channel, len(card.classes))


def _read_free(path: Path, mask_path: Path, n_classes: int) -> Picture:
    mask = read_image(mask_path)
    check_shapes(path, mask_path, mask)
    if (mask >= EDGE).any():
        raise DatasetError(f"{mask_path}: a part without a defect has defect pixels")
    return Picture(path.name, path, np.zeros((*mask.shape[:2], n_classes), np.uint8), odd=REFUSED)
