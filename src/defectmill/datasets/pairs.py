"""Pictures and masks in two folders, paired by the stem of their names."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from defectmill.datasets.competition import DatasetError, Picture
from defectmill.images import SUFFIXES, read_image
from defectmill.palette import Colour, masks_from_colours

EDGE = 128  # from here on a pixel of a grey mask is defect
OFF_PALETTE = 0.05  # share of a mask's pixels; more is another palette


def pair_files(images: Path, masks: Path, ending: str = "") -> Iterator[tuple[Path, Path]]:
    """Pair the pictures of two folders, sorted by stem.

    Args:
        ending: of a mask's stem after its picture's, such as "_mask".
    Raises:
        DatasetError: a folder is missing, a picture without a mask or the reverse, or two files
            of one stem.
    """
    found = []
    for folder, end in ((images, ""), (masks, ending)):
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder")
        files: dict[str, Path] = {}
        for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
            stem = path.stem.removesuffix(end)
            if stem in files:
                raise DatasetError(f"{path}: {files[stem].name} has the same stem")
            files[stem] = path
        found.append(files)
    for stem in sorted(found[0].keys() ^ found[1].keys()):
        lacks = "mask" if stem in found[0] else "picture"
        raise DatasetError(f"{(found[0] | found[1])[stem]}: has no {lacks}")
    for stem, image in found[0].items():
        yield image, found[1][stem]


def read_colour_pair(image: Path, mask: Path, colours: Sequence[Colour], part: str = "") -> Picture:
    """Read a picture with a mask whose colours are classes.

    Raises:
        DatasetError: sizes differ, or too many pixels have colours of another palette.
    """
    picture = read_image(mask, channels=3)
    check_shapes(image, mask, picture)
    masks, n_off = masks_from_colours(picture, colours)
    share = n_off / masks[:, :, 0].size
    if share > OFF_PALETTE:
        raise DatasetError(
            f"{mask}: {share:.1%} of its pixels have a colour that is no class's; are the "
            f"colours of dataset.json {[tuple(c) for c in colours]}?"
        )
    odd = {"mask pixels of a colour off the palette, taken as the nearest": n_off} if n_off else {}
    return Picture(image.name, image, masks, part, odd)


def read_grey_pair(image: Path, mask: Path, channel: int, n_classes: int) -> Picture:
    """Read a picture with a grey mask of one class; from 128 on a pixel is defect.

    Raises:
        DatasetError: sizes differ.
    """
    grey = read_image(mask)
    check_shapes(image, mask, grey)
    masks = np.zeros((*grey.shape[:2], n_classes), np.uint8)
    masks[:, :, channel] = grey[:, :, 0] >= EDGE
    between = int(((grey > 0) & (grey < 255)).sum())
    odd = {f"grey mask pixels, binarised at {EDGE}": between} if between else {}
    return Picture(image.name, image, masks, odd=odd)


def check_shapes(image: Path, mask: Path, read_mask: np.ndarray) -> None:
    """Refuse a mask of another size than its picture."""
    shape = read_image(image).shape[:2]
    if read_mask.shape[:2] != shape:
        raise DatasetError(f"{mask}: a mask of {read_mask.shape[:2]} for a picture of {shape}")
