"""Datasets of images with mask files, or annotated in one of the known formats."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from defectmill.dataset_info import DatasetInfo
from defectmill.datasets.competition import NAMED, DatasetError, Picture, name_some
from defectmill.datasets.pairs import IMAGES, Pair, find_pairs
from defectmill.files import SUFFIXES
from defectmill.formats import open_source
from defectmill.formats.masks import Encoding, choose_encoding, read_masks, survey_masks
from defectmill.formats.shapes import FormatError, find_pictures
from defectmill.images import list_images, read_image, read_orientation, read_shape, turn_upright

EDGE = 128  # from here on a pixel of a grey mask is defect
NOTES: tuple[str, ...] = ()
GREY = f"grey mask pixels, binarised at {EDGE}"
EMPTY = "empty mask in a defect class, counts as clean"
UNMASKED = "image without a mask file, taken as clean"
IGNORED = "orientation tag, not applied: masks are drawn on the pixels as they are stored"
APPLIED = "orientation tag, applied: masks are drawn on the upright image"
FRAMED = "mask of most of its image and of its frame: is it inverted?, read like the others"
# An adapter stops at these: where it went on, none was found.
REFUSED = {"mask without an image, refused": 0, "mask of another size than its image, refused": 0}


def read_raw(raw: Path, info: DatasetInfo) -> Iterator[Picture]:
    """Read images and mask files (see `pairs.find_pairs`), MVTec's layout, or the format that `info` names.

    MVTec's is test/<class>/, ground_truth/<class>/ (grey masks), train/good/ and test/good/, in `raw` or in a
    folder of the object's name, such as tile/. Its file names repeat: the class goes before the image id.

    Raises:
        DefectmillError: another layout, a folder that is no class, a mask without its image or the
            reverse, sizes that differ, or masks that do not fit the classes.
    """
    if info.format:
        yield from _read_source(raw, info)
        return
    if home := find_mvtec(raw, info.name):
        yield from _read_mvtec(home, info)
        return
    pairs = find_pairs(raw)
    names = {name for pair in pairs for name in pair.masks} - {""}
    if unknown := sorted(names - set(info.class_names)):
        way_out = "rename them, or the class in its info.json"
        offence = f"masks of {unknown[0]!r}, which is no class; there are {info.class_names}"
        raise DatasetError(f"{raw}: {offence}: {way_out}")
    # A file of one class cannot tell which: its name does.
    alone = info.model_copy(update={"classes": info.classes[:1]}) if names else info
    survey = survey_masks(path for pair in pairs for paths in pair.masks.values() for path in paths)
    if not survey.files:
        kinds = f"read are {' '.join(SUFFIXES)}"
        raise DatasetError(f"{raw}: holds {len(pairs)} images, and no mask that can be read; {kinds}")
    encoding = choose_encoding(survey, alone)
    unread = _note_unread(raw, pairs)
    has_test = any(pair.masks for pair in pairs if pair.part == "test")
    lacking = {pair.image for pair in pairs if pair.part == "test" and not has_test}
    if not has_test:
        pairs = [replace(pair, part="") for pair in pairs]
    ids = _name_uniquely(pair.image for pair in pairs)
    is_plain = encoding == Encoding("binary", 255) and not (survey.alpha or names)
    for pair in pairs:
        masks = pair.masks.get("", [])
        if pair.image in lacking:
            picture = Picture(pair.image.name, pair.image, None)
        elif is_plain and len(masks) == 1:
            picture = replace(read_grey_pair(pair.image, masks[0], 0, 1), part=pair.part)
        else:
            picture = _read_pair(pair, encoding, info, alone)
        issues = picture.issues | ({FRAMED: int(_fills_frame(picture))} if encoding.name == "binary" else {})
        note = f"masks are read as {encoding.name}: {survey.seen}{unread}"
        yield replace(picture, image_id=ids[pair.image], issues=issues, note=note)


def find_mvtec(raw: Path, name: str) -> Path | None:
    """Find the folder in MVTec's layout, `raw` or that of the object in it; None where there is none."""
    for home in (raw / name.removeprefix("mvtec-"), raw):
        inside = {path.name.casefold() for path in home.iterdir()} if home.is_dir() else set()
        classes = [path for path in home.glob("ground_truth/*") if path.is_dir()]
        if classes and not inside & {*IMAGES.split()}:
            return home
    return None


def _note_unread(raw: Path, pairs: Iterable[Pair]) -> str:
    """Say which image files of a folder are neither images nor masks of the pairs, "" where all are."""
    masks = {path for pair in pairs for paths in pair.masks.values() for path in paths}
    read = masks | {pair.image for pair in pairs}
    others = [path.relative_to(raw).as_posix() for path in find_pictures(raw).files if path not in read]
    return f"; not read: {len(others)} image files ({name_some(others, NAMED)})" if others else ""


def _fills_frame(picture: Picture) -> bool:
    """Whether most pixels of an image, and of its frame, are in a mask."""
    if picture.masks is None:
        return False
    inside = picture.masks.max(axis=2)
    frame = [inside[0], inside[-1], inside[:, 0], inside[:, -1]]
    return bool(inside.mean() > 0.5 and np.concatenate(frame).mean() > 0.5)


def _read_pair(pair: Pair, encoding: Encoding, info: DatasetInfo, alone: DatasetInfo) -> Picture:
    if not pair.masks and info.without_mask == "refused":
        way_out = 'set "without_mask": "clean" or "left out" in its info.json'
        raise DatasetError(f"{pair.image}: has no mask; if that is right, {way_out}")
    if not pair.masks and info.without_mask == "left out":
        return Picture(pair.image.name, pair.image, None)
    image: Path | np.ndarray = pair.image
    masks = np.zeros((*read_shape(pair.image), info.n_classes), np.uint8)
    issues = Counter({**REFUSED, UNMASKED: int(not pair.masks)})
    for number, (name, path) in enumerate(
        (name, path) for name, paths in pair.masks.items() for path in paths
    ):
        drawn, odd = read_masks(path, encoding, alone)
        image, tag = fit_image(pair.image, path, drawn.shape[:2])
        if not number:
            masks = np.zeros((*drawn.shape[:2], info.n_classes), np.uint8)
            odd |= tag
        if masks.shape[:2] != drawn.shape[:2]:
            raise DatasetError(
                f"{path}: a mask of {drawn.shape[:2]}, other masks of its image of {masks.shape[:2]}"
            )
        channel = info.class_names.index(name) if name else 0
        masks[..., channel : channel + drawn.shape[2]] |= drawn
        issues.update(odd)
    return Picture(pair.image.name, image, masks, pair.part, dict(issues))


def fit_image(image: Path, mask: Path, shape: tuple[int, ...]) -> tuple[Path | np.ndarray, dict[str, int]]:
    """Find out whether a mask of `shape` was drawn on the stored pixels or on those that a tag turns upright.

    Returns:
        The file, or the upright (H, W, 3) image where the mask fits that alone; and an issue of each tag.
    Raises:
        DatasetError: the mask fits neither; with its scale, where that is it.
    """
    stored, orientation = read_shape(image), read_orientation(image)
    if shape == stored:
        return image, {IGNORED: 1} if orientation > 1 else {}
    if orientation > 4 and shape == stored[::-1]:
        return turn_upright(read_image(image, 3), orientation), {APPLIED: 1}
    times, across = (round(one / other, 2) for one, other in zip(shape, stored, strict=True))
    is_scaled = f"at {times:g} times its scale: resize it by the nearest pixel first"
    hint = is_scaled if times == across else "(height, width): is it the mask of another one, or cropped?"
    raise DatasetError(f"{mask}: a mask of {shape} for an image of {stored}, {hint}")


def _read_mvtec(home: Path, info: DatasetInfo) -> Iterator[Picture]:
    for folder in sorted((home / "ground_truth").iterdir()):
        if folder.name not in info.class_names:
            known = ", ".join(sorted(info.class_names))
            raise DatasetError(
                f"{folder}: not a class; there are: {known}: add it to the info, or move it away"
            )
    for channel, name in enumerate(info.class_names):
        for image, mask in pair_files(home / "test" / name, home / "ground_truth" / name, "_mask"):
            picture = read_grey_pair(image, mask, channel, info.n_classes)
            yield replace(picture, image_id=f"{name}_{image.name}")
    for part in ("test", "train"):
        good = home / part / "good"
        for name in list_images(good) if good.is_dir() else []:
            masks = np.zeros((*read_shape(good / name), info.n_classes), np.uint8)
            yield Picture(f"good_{part}_{name}", good / name, masks)


def _read_source(raw: Path, info: DatasetInfo) -> Iterator[Picture]:
    """Read one of the annotation formats; file names that repeat get their folder before them."""
    try:
        source = open_source(raw, info.format)
    except FormatError as error:
        raise DatasetError(f'{error} ("format" is in the info.json of {info.name})') from error
    found, told = list(source.read()), "; ".join([f"annotated in the format {source.format}", *source.notes])
    ids = _name_uniquely(one.image for one in found)
    has_test = any(one.part == "test" for one in found)
    for one in found:
        image_id = ids[one.image]
        if one.masks is None:
            yield Picture(image_id, one.image, None)
            continue
        if unknown := sorted(set(one.masks) - set(info.class_names)):
            raise DatasetError(
                f"{one.image}: has a {unknown[0]!r}, which is no class; there are {info.class_names}"
            )
        masks = np.zeros((*one.shape, info.n_classes), np.uint8)
        for name, mask in one.masks.items():
            masks[..., info.class_names.index(name)] = mask
        yield Picture(image_id, one.image, masks, one.part if has_test else "", one.issues, note=told)


def _name_uniquely(images: Iterable[Path]) -> dict[Path, str]:
    """Give each image its file name as id; where two share it, their folders go before it."""
    paths = list(images)
    uses = Counter(path.name.casefold() for path in paths)
    long = {path: "_".join(path.relative_to(path.anchor).parts[-3:]) for path in paths}
    return {path: path.name if uses[path.name.casefold()] == 1 else long[path] for path in paths}


def pair_files(images: Path, masks: Path, ending: str = "") -> Iterator[tuple[Path, Path]]:
    """Pair the image files of two folders; see `pair_stems`."""
    found = [[folder / name for name in list_images(folder)] for folder in (images, masks)]
    return pair_stems(found[0], found[1], ending)


def pair_stems(
    images: Iterable[Path], masks: Iterable[Path], ending: str = ""
) -> Iterator[tuple[Path, Path]]:
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


def read_grey_pair(image: Path, mask: Path, channel: int, n_classes: int) -> Picture:
    """Read an image with a grey mask of one class; a mask of another size is refused."""
    grey = read_image(mask)
    fitting, tag = fit_image(image, mask, grey.shape[:2])
    masks = np.zeros((*grey.shape[:2], n_classes), np.uint8)
    masks[:, :, channel] = grey[:, :, 0] >= EDGE
    above, full = int((grey > 0).sum()), int((grey == 255).sum())
    issues = {**REFUSED, **tag, GREY: above - full, EMPTY: int(not masks.any())}
    return Picture(image.name, fitting, masks, issues=issues, grey={channel + 1: (above, full)})
