"""Which mask files belong to which image: by folders and names, as people lay them out."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from defectmill.datasets.competition import NAMED, DatasetError, name_some
from defectmill.images import list_images

IMAGES = "images image imgs img pictures pics photos inputs jpegimages"
MASKS = "masks mask labels label annotations gt ground_truth groundtruth segmentations segmentation targets"
# All training data: the validation fold is chosen by group, which a ready-made valid/ seldom is.
PARTS = {"train": "train", "training": "train", "valid": "train", "val": "train", "validation": "train"}
PARTS |= {"test": "test", "testing": "test"}
_WORD = r"(mask|label|gt|groundtruth|ground_truth|seg|segmentation|annotation)s?"
_SAYS_MASK = re.compile(rf"(^|[ _.-]){_WORD}(?=$|[ _.-])", re.I)
_IS_NUMBER = re.compile(r"(instance|inst|defect|object)?[ _.-]?[0-9]+", re.I)


@dataclass(frozen=True)
class Pair:
    """An image and its mask files: {class: files}; class "" where the file itself tells, or there is one."""

    image: Path
    part: str = ""
    masks: dict[str, list[Path]] = field(default_factory=dict)


def find_pairs(raw: Path) -> list[Pair]:
    """Find images and masks in a folder.

    They lie in images/ and masks/ (or folders of such names), in such two in each of train/, valid/ and test/
    or the other way round, in such two in a folder for each image, or in one folder with masks named like
    part_mask.png. A mask is named like its image, with "mask" or the like before or after it. One file shows
    all classes; or there is one for each class, in masks/<class>/ or named part_<class>.png, or one for each
    instance, part_0.png, part_1.png, ...

    Raises:
        DatasetError: no such layout, with what there is; a mask without an image, two masks in one place.
    """
    folders = _find_folders(raw)
    if not folders:
        holds = name_some(sorted(p.name for p in raw.iterdir()), 8) or "nothing"
        raise DatasetError(f"{raw}: neither images and masks nor train, valid, test; holds {holds}")
    return [pair for images, masks, part in folders for pair in _pair_folders(images, masks, part)]


def _find_folders(raw: Path) -> list[tuple[Path, Path, str]]:
    """Find (folder of images, folder of masks, part)."""
    inside = _list_folders(raw)
    images, masks = (
        next((inside[n] for n in names.split() if n in inside), None) for names in (IMAGES, MASKS)
    )
    if images and masks:
        parts = {name: folder for name, folder in _list_folders(images).items() if name in PARTS}
        drawn = _list_folders(masks)
        if not parts or not parts.keys() <= drawn.keys():
            return [(images, masks, "")]
        return [(folder, drawn[name], PARTS[name]) for name, folder in parts.items()]
    parts = {name: folder for name, folder in inside.items() if name in PARTS}
    if parts:
        found = [(i, m, PARTS[name]) for name, folder in parts.items() for i, m, _ in _find_folders(folder)]
    elif any(_SAYS_MASK.search(Path(name).stem) for name in list_images(raw)):
        found = [(raw, raw, "")]
    else:  # a folder for each image, as in the Data Science Bowl of 2018
        each = [_find_folders(folder) for folder in inside.values()]
        found = [one for folders in each for one in folders] if all(each) else []
    return found


def _list_folders(folder: Path) -> dict[str, Path]:
    there = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return {p.name.casefold(): p for p in there}


def _pair_folders(images: Path, masks: Path, part: str) -> Iterator[Pair]:
    pictures, drawn = ([folder / name for name in list_images(folder)] for folder in (images, masks))
    if images == masks:
        drawn = [path for path in drawn if _SAYS_MASK.search(path.stem)]
        pictures = [path for path in pictures if path not in drawn]
    by_class = {"": drawn}
    for folder in _list_folders(masks).values() if images != masks else ():
        by_class[folder.name] = [folder / name for name in list_images(folder)]
    pairs = {path: Pair(path, part) for path in pictures}
    for name, paths in by_class.items():
        for word, image, path in _match(paths, _index_stems(pictures)):
            is_number = bool(_IS_NUMBER.fullmatch(word))
            there = pairs[image].masks.setdefault(name or ("" if is_number else word), [])
            if there and not is_number:
                raise DatasetError(f"{path}: {there[0].name} has the same stem")
            there.append(path)
    yield from pairs.values()


def _index_stems(pictures: Iterable[Path]) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for path in sorted(pictures):
        other = stems.setdefault(_compose(path.stem), path)
        if other != path:
            raise DatasetError(f"{path}: {other.name} has the same stem")
    return stems


def _match(paths: list[Path], stems: dict[str, Path]) -> list[tuple[str, Path, Path]]:
    """Find each mask's image: (what its name says beside the image's, such as a class; image, mask)."""
    found, orphans = [], []
    for path in paths:
        words = re.split(r"([ _.-])", _compose(path.stem))
        # An image may be called p1_2 beside another p1: the longest name decides.
        cuts = sorted(((b - a, a, b) for b in range(len(words), 0, -2) for a in range(0, b, 2)), reverse=True)
        names = (("".join(words[a:b]), words[: max(a - 1, 0)] + words[b + 1 :]) for _, a, b in cuts)
        match = next(((stem, rest) for stem, rest in names if stem in stems), None)
        if match:
            found.append(
                ("_".join(word for word in match[1] if not re.fullmatch(r"[ _.-]", word)), match[0], path)
            )
        else:
            orphans.append(path)
    if orphans:
        more = name_some([p.name for p in orphans[1:]], NAMED - 1)
        others = f"; nor have {len(orphans) - 1} others ({more})" if more else ""
        raise DatasetError(f"{orphans[0]}: has no image{others}")
    rests = Counter(rest for rest, _, _ in found)
    common = next(iter(rests)) if len(rests) == 1 and len(found) > 1 else ""
    tidy = {
        r: "" if r == common and not _IS_NUMBER.fullmatch(r) else _SAYS_MASK.sub("", r).strip("_")
        for r in rests
    }
    return [(tidy[rest], stems[stem], path) for rest, stem, path in found]


def _compose(stem: str) -> str:
    """One form for names that macOS decomposes (a letter, then its accent)."""
    return unicodedata.normalize("NFC", stem)
