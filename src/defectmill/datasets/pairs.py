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
_WORD = r"(mask|label|gt|gtfine|labelid|groundtruth|ground_truth|seg|segmentation|annotation)s?"
_SAYS_MASK = re.compile(rf"(^|[ _.-]){_WORD}(?=$|[ _.-])", re.I)
# Beside numbers without a blank too: mask7 belongs to img7.
_MASK_WORD = re.compile(rf"(^|[ _.-]|(?<=\d)){_WORD}(?=$|[ _.-]|\d)", re.I)
_IMAGE_WORD = re.compile(
    r"(^|[ _.-]|(?<=\d))(image|img|photo|picture|pic|sat|rgb|original|leftimg8bit)s?(?=$|[ _.-]|\d)", re.I
)
_IS_NUMBER = re.compile(r"(instance|inst|defect|object)?[ _.-]?[0-9]+", re.I)


@dataclass(frozen=True)
class Pair:
    """An image and its mask files: {class: files}; class "" where the file itself tells, or there is one."""

    image: Path
    part: str = ""
    masks: dict[str, list[Path]] = field(default_factory=dict)


def find_pairs(raw: Path) -> list[Pair]:
    """Find images and masks in a folder.

    They lie in images/ and masks/ (or folders of such names, with the same folders in both), in such two in
    each of train/, valid/ and test/ or the other way round, in such two in a folder for each image, beside
    masks/, or in one folder with masks named like part_mask.png, or part.png beside part.jpg. A mask is named
    like its image, with "mask" or the like before or after it, or in place of "image" or the like. One file
    shows all classes; or there is one for each class, in masks/<class>/ or named part_<class>.png, or one for
    each instance, part_0.png, part_1.png, ...

    Raises:
        DatasetError: no such layout, with what there is; a mask without an image, two masks in one place.
    """
    if not raw.is_dir():
        raise DatasetError(
            f"{raw}: is a file, not a folder of images and masks: give the folder, or unpack it"
        )
    folders = _find_folders(raw)
    if not folders:
        holds = name_some(sorted(p.name for p in raw.iterdir()), 8) or "nothing"
        offence = f"{raw}: neither images and masks nor train, valid, test; holds {holds}"
        way_out = "give a folder with images/ and masks/ in it; other formats are read by make new"
        raise DatasetError(f"{offence}: {way_out}")
    return [pair for images, masks, part in folders for pair in _pair_folders(images, masks, part)]


def _find_folders(raw: Path) -> list[tuple[Path, Path, str]]:
    """Find (folder of images, folder of masks, part)."""
    inside = _list_folders(raw)
    images, masks = _find(inside, IMAGES), _find(inside, MASKS)
    if masks and not images and list_images(raw):
        images = raw
    if images and masks:
        drawn, below = _list_folders(masks), _list_folders(images) if images != raw else {}
        if not below.keys() & drawn.keys():
            return [(images, masks, "")]
        if beside := list_images(images):
            raise DatasetError(
                f"{images / beside[0]}: lies beside folders of images; move it into one of them"
            )
        return [(folder, drawn.get(n, masks / folder.name), PARTS.get(n, "")) for n, folder in below.items()]
    parts = {name: folder for name, folder in inside.items() if name in PARTS}
    if parts:
        found = [(i, m, PARTS[name]) for name, folder in parts.items() for i, m, _ in _find_folders(folder)]
        if found:  # a test part may have images alone
            alone = [folder for folder in parts.values() if not _find_folders(folder)]
            homes = [(_find(_list_folders(folder), IMAGES) or folder, folder) for folder in alone]
            found += [(i, i / MASKS.split()[0], PARTS[f.name.casefold()]) for i, f in homes if list_images(i)]
    elif _choose_masks([raw / name for name in list_images(raw)]):
        found = [(raw, raw, "")]
    else:  # a folder for each image, as in the Data Science Bowl of 2018
        each = [_find_folders(folder) for folder in inside.values()]
        found = [one for folders in each for one in folders] if all(each) else []
    return found


def _choose_masks(paths: list[Path]) -> list[Path]:
    """Choose the masks among the files of one folder: by their names, else what stands beside JPEGs."""
    said = [path for path in paths if _SAYS_MASK.search(path.stem)]
    lossy = {path.stem for path in paths if path.suffix.lower() in (".jpg", ".jpeg")}
    return said or [p for p in paths if p.stem in lossy and p.suffix.lower() not in (".jpg", ".jpeg")]


def _find(inside: dict[str, Path], names: str) -> Path | None:
    return next((inside[name] for name in names.split() if name in inside), None)


def _list_folders(folder: Path) -> dict[str, Path]:
    there = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return {re.sub("[ -]", "_", p.name.casefold()): p for p in there}


def _pair_folders(images: Path, masks: Path, part: str) -> Iterator[Pair]:
    pictures = [images / name for name in list_images(images)]
    drawn = [masks / name for name in list_images(masks, missing_ok=True)]
    if images == masks:
        drawn = _choose_masks(drawn)
        pictures = [path for path in pictures if path not in drawn]
    by_class = {"": drawn}
    for folder in _list_folders(masks).values() if images != masks and masks.is_dir() else ():
        by_class[folder.name] = [folder / name for name in list_images(folder)]
    pairs = {path: Pair(path, part) for path in pictures}
    for name, paths in by_class.items():
        for word, image, path in _match(paths, _index_stems(pictures)):
            is_number = bool(_IS_NUMBER.fullmatch(word))
            there = pairs[image].masks.setdefault(name or ("" if is_number else word), [])
            if there and not is_number:
                raise DatasetError(f"{path}: {there[0].name} has the same stem; keep one of them")
            there.append(path)
    yield from pairs.values()


def _index_stems(pictures: Iterable[Path]) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for path in sorted(pictures):
        other = stems.setdefault(_compose(path.stem), path)
        if other != path:
            raise DatasetError(f"{path}: {other.name} has the same stem; rename one, and its mask")
    return stems


def _index_cores(stems: dict[str, Path]) -> dict[str, str]:
    """Give the stems of images by what is left without "image" or the like, where one image has it."""
    cores = [(_IMAGE_WORD.sub("", stem).strip(" _.-").casefold(), stem) for stem in stems]
    uses = Counter(core for core, _ in cores)
    return {core: stem for core, stem in cores if core and uses[core] == 1}


def _match(paths: list[Path], stems: dict[str, Path]) -> list[tuple[str, Path, Path]]:
    """Find each mask's image: (what its name says beside the image's, such as a class; image, mask)."""
    found, orphans, cores = [], [], _index_cores(stems)
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
        elif core := cores.get(_MASK_WORD.sub("", _compose(path.stem)).strip(" _.-").casefold()):
            found.append(("", core, path))
        else:
            orphans.append(path)
    if orphans:
        more = name_some([p.name for p in orphans[1:]], NAMED - 1)
        others = f"; nor have {len(orphans) - 1} others ({more})" if more else ""
        there = f"those are called {name_some(sorted(stems), 3)}" if stems else "there is none"
        way_out = f'a mask is named like its image, with "mask" before or after it; {there}'
        raise DatasetError(f"{orphans[0]}: has no image{others}: {way_out}")
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
