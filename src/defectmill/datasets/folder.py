"""Datasets of images and masks in folders: colour masks (black is background), or a grey one for a class."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from defectmill.dataset_info import DatasetInfo
from defectmill.datasets.competition import NAMED, DatasetError, Picture, name_some
from defectmill.images import list_images, masks_from_colours, read_image, read_shape

Pairs = Iterator[tuple[Path, Path]]  # image and mask
EDGE = 128  # from here on a pixel of a grey mask is defect
OFF_PALETTE = 0.05  # share of a mask's pixels; more is another palette
NOTES = (f"colour masks are read by the colours of the classes, grey ones from {EDGE} on",)
# All training data: the validation fold is chosen by group, which a ready-made valid/ seldom is.
PARTS = {"train": "train", "valid": "train", "test": "test"}
OFF = "mask pixels of a colour off the palette, taken as the nearest"
RIM = "mask pixels of a thin rim of another class, given to what they border"
GREY = f"grey mask pixels, binarised at {EDGE}"
EMPTY = "empty mask in a defect class, counts as clean"
# An adapter stops at these: where it went on, none was found.
REFUSED = {"mask without an image, refused": 0, "mask of another size than its image, refused": 0}


def read_raw(raw: Path, info: DatasetInfo) -> Iterator[Picture]:
    """Read images/ and masks/ (in colours), or such a pair in train/, valid/ and test/, or MVTec's layout.

    That is test/<class>/, ground_truth/<class>/ (grey masks), train/good/ and test/good/, in `raw` or in a
    folder of the object's name, such as tile/. Its file names repeat: the class goes before the image id.

    Raises:
        DefectmillError: another layout, a folder that is no class, a mask without its image or the
            reverse, sizes that differ, or a mask with other colours than `info` has.
    """
    for home in (raw / info.name.removeprefix("mvtec-"), raw):
        if (home / "ground_truth").is_dir():
            yield from _read_mvtec(home, info)
            return
    folders = {raw / name: part for name, part in PARTS.items() if (raw / name).is_dir()}
    folders = {raw: ""} if (raw / "images").is_dir() else folders
    if not folders:
        found = name_some(sorted(p.name for p in raw.iterdir()), 8) or "nothing"
        raise DatasetError(f"{raw}: neither images and masks nor train, valid, test; holds {found}")
    for folder, part in folders.items():
        for image, mask in pair_files(folder / "images", folder / "masks"):
            yield read_colour_pair(image, mask, info, part)


def _read_mvtec(home: Path, info: DatasetInfo) -> Iterator[Picture]:
    for folder in sorted((home / "ground_truth").iterdir()):
        if folder.name not in info.class_names:
            raise DatasetError(f"{folder}: not a class; there are: {', '.join(sorted(info.class_names))}")
    for channel, name in enumerate(info.class_names):
        for image, mask in pair_files(home / "test" / name, home / "ground_truth" / name, "_mask"):
            picture = read_grey_pair(image, mask, channel, info.n_classes)
            yield replace(picture, image_id=f"{name}_{image.name}")
    for part in ("test", "train"):
        good = home / part / "good"
        for name in list_images(good) if good.is_dir() else []:
            masks = np.zeros((*read_shape(good / name), info.n_classes), np.uint8)
            yield Picture(f"good_{part}_{name}", good / name, masks)


def pair_files(images: Path, masks: Path, ending: str = "") -> Pairs:
    """Pair the image files of two folders; see `pair_stems`."""
    found = [[folder / name for name in list_images(folder)] for folder in (images, masks)]
    return pair_stems(found[0], found[1], ending)


def pair_stems(images: Iterable[Path], masks: Iterable[Path], ending: str = "") -> Pairs:
    """Pair images and masks of one stem, sorted by it.

    Args:
        ending: of a mask's stem after its image's, such as "_mask".
    Raises:
        DatasetError: an image without a mask or the reverse, or two files of one stem.
    """
    pictures: dict[str, Path] = {}
    drawn: dict[str, Path] = {}
    for paths, end, by_stem in ((images, "", pictures), (masks, ending, drawn)):
        for path in sorted(paths):
            other = by_stem.setdefault(path.stem.removesuffix(end), path)
            if other != path:
                raise DatasetError(f"{path}: {other.name} has the same stem")
    for here, there, lacks in ((pictures, drawn, "mask"), (drawn, pictures, "image")):
        orphans = [path for stem, path in here.items() if stem not in there]
        if orphans:
            names = name_some([path.name for path in orphans[1:]], NAMED - 1)
            more = f"; nor have {len(orphans) - 1} others ({names})" if names else ""
            raise DatasetError(f"{orphans[0]}: has no {lacks}{more}")
    for stem, image in pictures.items():
        yield image, drawn[stem]


def read_colour_pair(image: Path, mask: Path, info: DatasetInfo, part: str = "") -> Picture:
    """Read an image with a colour mask; one of another size or with other colours is refused."""
    colours = read_image(mask, channels=3)
    check_shapes(image, mask, colours)
    masks, n_off = masks_from_colours(colours, info.colours)
    share = n_off / masks[:, :, 0].size
    if share > OFF_PALETTE:
        offence = f"{share:.1%} of its pixels have a colour that is no class's"
        raise DatasetError(f"{mask}: {offence}; are the colours of {info.name} {info.colours}?")
    issues = {**REFUSED, OFF: n_off}
    if info.undo_rims:
        masks, issues[RIM] = undo_rims(masks)
    return Picture(image.name, image, masks, part, issues)


def read_grey_pair(image: Path, mask: Path, channel: int, n_classes: int) -> Picture:
    """Read an image with a grey mask of one class; a mask of another size is refused."""
    grey = read_image(mask)
    check_shapes(image, mask, grey)
    masks = np.zeros((*grey.shape[:2], n_classes), np.uint8)
    masks[:, :, channel] = grey[:, :, 0] >= EDGE
    above, full = int((grey > 0).sum()), int((grey == 255).sum())
    issues = {**REFUSED, GREY: above - full, EMPTY: int(not masks.any())}
    return Picture(image.name, image, masks, issues=issues, grey={channel + 1: (above, full)})


def check_shapes(image: Path, mask: Path, read_mask: np.ndarray) -> None:
    """Refuse a mask of another size than its image, and say whether it is at another scale."""
    shape, drawn = read_image(image).shape[:2], read_mask.shape[:2]
    if drawn != shape:
        times, across = (round(one / other, 2) for one, other in zip(drawn, shape, strict=True))
        hint = f", at {times:g} times its scale: resize it by the nearest pixel first" * (times == across)
        raise DatasetError(f"{mask}: a mask of {drawn} for an image of {shape}{hint}")


def undo_rims(masks: np.ndarray) -> tuple[np.ndarray, int]:
    """Undo what interpolation made of class numbers, such as a rim of 1 between background 0 and class 2.

    A connected component that touches another class and holds no square of 5 x 5 pixels is such a rim; its
    pixels are given to the nearest class or background beside them.

    Args:
        masks: (H, W, C) uint8 in {0, 1}, without overlap.
    Returns:
        (H, W, C) uint8 without rims, and how many pixels were given away.
    """
    class_ids = np.arange(1, masks.shape[2] + 1, dtype=np.uint8)
    numbers = (masks * class_ids).max(axis=2)
    rim = np.zeros(numbers.shape, bool)
    for class_id in class_ids.tolist():
        mine = (numbers == class_id).astype(np.uint8)
        others = ((numbers > 0) & (mine == 0)).astype(np.uint8)
        n, components = cv2.connectedComponents(mine, connectivity=8)
        thick = components[cv2.erode(mine, np.ones((5, 5), np.uint8)) > 0]
        touching = components[cv2.dilate(others, np.ones((3, 3), np.uint8)) > 0]
        thin = np.setdiff1d(np.intersect1d(np.arange(1, n), touching), thick)
        rim |= np.isin(components, thin)
    if not rim.any():
        return masks, 0
    rows, columns = distance_transform_edt(rim, return_distances=False, return_indices=True)
    return (numbers[rows, columns][..., None] == class_ids).astype(np.uint8), int(rim.sum())
