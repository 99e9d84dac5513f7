"""Magnetic tiles (Huang et al. 2018): MT_<Class>/Imgs/<name>.jpg with the mask <name>.png.

Masks are grey with interpolated edges; from 128 on, the middle of the edge, a pixel is defect. The area
of a class at "> 0" is up to 2.9 times that at "== 255".
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from defectmill.dataset_info import DatasetInfo
from defectmill.datasets.competition import DatasetError, Picture
from defectmill.datasets.folder import EDGE, REFUSED, pair_stems, read_grey_pair

NOTES = (f"masks binarised at {EDGE}",)


def read_raw(raw: Path, info: DatasetInfo) -> Iterator[Picture]:
    """Read the raw folder; a file missing, masks of other sizes and defects in MT_Free are refused."""
    for channel, name in enumerate([*info.class_names, "free"]):
        folder = raw / f"MT_{name.capitalize()}" / "Imgs"
        if not folder.is_dir():
            found = ", ".join(sorted(p.name for p in raw.iterdir())) or "nothing"
            raise DatasetError(f"{folder}: no such folder; {raw} holds {found}")
        is_free = channel == info.n_classes
        for image, mask in pair_stems(folder.glob("*.jpg"), folder.glob("*.png")):
            picture = read_grey_pair(image, mask, 0 if is_free else channel, info.n_classes)
            if is_free and np.any(picture.masks):
                raise DatasetError(f"{mask}: a part without a defect has defect pixels")
            yield replace(picture, issues=REFUSED, grey={}) if is_free else picture
