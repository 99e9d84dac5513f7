"""Pictures and masks in two folders, paired by the stem of their names."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from defectmill.datasets.competition import NAMED, DatasetError, Picture
from defectmill.images import SUFFIXES, read_image
from defectmill.palette import Colour, masks_from_colours

EDGE = 128  # from here on a pixel of a grey mask is defect
OFF_PALETTE = 0.05  # share of a mask's pixels; more is another palette
OFF = "mask pixels of a colour off the palette, taken as the nearest"
GREY = f"grey mask pixels, binarised at {EDGE}"
EMPTY = "empty mask in a defect class, counts as clean"
# What stops an adapter was looked for too.
REFUSED = {
    "mask without a picture, refused": 0,
    "mask of another size than its picture, refused": 0,
}


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
    for there, other, lacks in ((*found, "mask"), (*found[::-1], "picture")):
        refuse_orphans([path for stem, path in there.items() if stem not in other], lacks)
    for stem, image in found[0].items():
        yield image, found[1][stem]


def refuse_orphans(paths: Sequence[Path], lacks: str) -> None:
    """Raise DatasetError with the files that lack a "mask" or a "picture", if there are any."""
    if paths:
        more = ", ".join(path.name for path in paths[1:NAMED])
        more = f"; nor have {len(paths) - 1} others ({more}{', ...' * (len(paths) > NAMED)})"
        raise DatasetError(f"{paths[0]}: has no {lacks}{more if len(paths) > 1 else ''}")


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
    return Picture(image.name, image, masks, part, {**REFUSED, OFF: n_off})


def read_grey_pair(image: Path, mask: Path, channel: int, n_classes: int) -> Picture:
    """Read a picture with a grey mask of one class; from 128 on a pixel is defect.

    Raises:
        DatasetError: sizes differ.
    """
    grey = read_image(mask)
    check_shapes(image, mask, grey)
    masks = np.zeros((*grey.shape[:2], n_classes), np.uint8)
    masks[:, :, channel] = grey[:, :, 0] >= EDGE
    above, full = int((grey > 0).sum()), int((grey == 255).sum())
    odd = {**REFUSED, GREY: above - full, EMPTY: int(not masks.any())}
    return Picture(image.name, image, masks, odd=odd, grey={channel + 1: (above, full)})


def check_shapes(image: Path, mask: Path, read_mask: np.ndarray) -> None:
    """Refuse a mask of another size than its picture, and say whether it is at another scale."""
    shape, drawn = read_image(image).shape[:2], read_mask.shape[:2]
    if drawn != shape:
        times, across = (round(one / other, 2) for one, other in zip(drawn, shape, strict=True))
        hint = f", at {times:g} times its scale: resize it by the nearest pixel first"
        raise DatasetError(
            f"{mask}: a mask of {drawn} for a picture of {shape}{hint if times == across else ''}"
        )
