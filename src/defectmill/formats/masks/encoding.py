"""Encodings of mask pictures: which one a dataset has, and how a file is read by it."""

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from defectmill.dataset_info import Colour, DatasetInfo
from defectmill.formats.masks.pixels import (
    NEAR,
    VOID,
    count_values,
    masks_from_colours,
    pack_colours,
    read_pixels,
    unpack_colour,
)
from defectmill.formats.masks.survey import Survey
from defectmill.formats.rims import find_mixtures, undo_rims
from defectmill.formats.shapes import FormatError
from defectmill.images import BLACK

FAR_SHARE = 0.05  # of a mask's pixels beside the background; more of unknown colours is another palette
OFF = "mask pixels of a colour off the palette, taken as the nearest"
RIMS = 'mask pixels of a thin rim of another class, given to what they border, unless info.json sets "masks"'
GREY = "grey mask pixels between background and defect, split at half of the brightest"
VOIDS = f"mask pixels of {VOID}, no class, taken as background"
JPEG = "JPEG mask, whose colours are not exact"
ONE_CLASS = ("binary", "inverted", "instances", "alpha")  # encodings that cannot tell classes apart
INSTANCES = '"instances" if all above 0 is a defect'  # for messages


@dataclass(frozen=True)
class Encoding:
    """How masks are to be read; brightest: of binary ones, 0 where each number is an instance.

    ground: the background of colours.
    """

    name: str
    brightest: int = 0
    ground: Colour = BLACK


def choose_encoding(survey: Survey, info: DatasetInfo) -> Encoding:
    """Choose how the masks of a dataset are to be read, by all of them and its classes.

    Raises:
        FormatError: they fit no encoding, or look inverted; with what was seen and the way out.
    """
    numbers, told = set(survey.numbers), f"{info.name}: {survey.seen}"
    values, is_one = set(class_values(info)), info.n_classes == 1
    ground = survey.background
    if min(np.linalg.norm(np.subtract(colour, ground)) for colour in info.colours) <= NEAR:
        ground = BLACK
    if info.masks in ONE_CLASS and not is_one:
        raise FormatError(f'{told}: "masks": "{info.masks}" in its info.json is for one class alone')
    if info.masks:
        return Encoding(info.masks, max(survey.greys, default=0), ground)
    if _fit_colours(survey.colours, info.colours, ground):
        return Encoding("colours", ground=ground)
    is_index = values & numbers and numbers <= {0, VOID, *values} and not survey.jpeg
    if is_index and (not is_one or survey.coloured or (VOID in numbers and VOID not in values)):
        _refuse_doubtful_void(survey, values, told)
        return Encoding("index")
    if is_one and survey.alpha == survey.files and (survey.coloured or set(survey.greys) <= {0}):
        return Encoding("alpha")
    if not survey.coloured and set(survey.greys) <= {0}:
        raise FormatError(f"{told}: no mask has a defect; a dataset needs some")
    if is_one and not survey.coloured:
        return Encoding("binary", _find_brightest(survey, told))
    wanted = f"of the colours {info.colours} or the numbers {sorted(values)}"
    lossy = "; JPEG keeps neither exactly: save masks as PNG" * bool(survey.jpeg)
    alone = f', or set "masks": {INSTANCES}' * is_one
    way_out = f'mend "colour" or "value" in its info.json{alone}{lossy}'
    raise FormatError(f"{told}: the classes are {wanted}; {way_out}")


def _refuse_doubtful_void(survey: Survey, values: set[int], told: str) -> None:
    """Refuse class numbers with 255 where that is hardly "no class": alone in files, or most of all."""
    share = survey.numbers[VOID] / survey.numbers.total()
    if VOID in values or not (survey.lone or (share > 0.5 and 0 not in values)):
        return
    offence = (
        f"{VOID} covers {share:.0%} of all pixels" if share > 0.5 else f"{survey.lone} hold {VOID} alone"
    )
    way_out = f'set "masks" to "index" in its info.json if {VOID} is no class'
    way_out += f", to {INSTANCES}" * (len(values) == 1)
    way_out += ', or the "value" of the class that is 0' * (share > 0.5)
    raise FormatError(f"{told}: {offence}; {way_out}")


def _find_brightest(survey: Survey, told: str) -> int:
    """Find the grey of a defect's pixels, 0 where each number is an instance."""
    greys = sorted(survey.greys)
    bright = sum(n for grey, n in survey.greys.items() if grey > greys[-1] / 2)
    share = bright / survey.greys.total()
    if share > 0.5 and survey.framed > 0.9 * survey.files:
        seen = f"{share:.0%} of all pixels are bright, and most of the frame: inverted?"
        raise FormatError(f'{told}: {seen} Set "masks" to "inverted" in its info.json, or to "binary"')
    if survey.ringed:
        some = f"{', '.join(survey.ringed[:3])}{', ...' * (len(survey.ringed) > 3)}"
        seen = f"{len(survey.ringed)} are bright all along the frame and dark inside ({some}): inverted?"
        raise FormatError(f'{told}: {seen} Mend them, or set "masks" to "binary" in its info.json')
    if survey.jpeg and greys[-1] <= NEAR:
        raise FormatError(f"{told}: JPEG keeps no such numbers: save masks as PNG")
    if len(greys) > 2 and greys[-1] == len(greys) - 1 and not survey.jpeg:
        return 0
    if len(greys) > 2 and greys[-1] not in (255, 65535) and not survey.jpeg:
        seen = "neither one class nor instances from 1 on"
        raise FormatError(f'{told}: {seen}; set "masks" in its info.json: {INSTANCES}, or "binary"')
    faint = [peak for peak in survey.peaks.elements() if NEAR * survey.jpeg < peak <= greys[-1] / 2]
    if faint:
        seen = f"{len(faint)} are no brighter than {max(faint)}, half of {greys[-1]} is wanted of a defect"
        raise FormatError(f'{told}: {seen}; set "masks" in its info.json: {INSTANCES}, or "binary"')
    return greys[-1]


def class_values(info: DatasetInfo) -> list[int]:
    """Numbers of the classes in index masks, in the order of the channels."""
    return [kind.id if kind.value is None else kind.value for kind in info.classes]


def read_masks(path: Path, encoding: Encoding, info: DatasetInfo) -> tuple[np.ndarray, dict[str, int]]:
    """Read one mask file: (H, W, C) uint8 in {0, 1}, and {what is odd: how many pixels}.

    Raises:
        FormatError: the file does not fit the encoding.
    """
    pixels, issues, near = read_pixels(path), dict[str, int](), 0
    stored = pixels.greys if encoding.name in ("binary", "inverted") else pixels.numbers
    if pixels.jpeg:
        issues[JPEG] = 1
    if encoding.name == "alpha":
        if pixels.alpha is None:
            raise FormatError(f"{path}: no pixel is transparent, as in the other masks")
        return (pixels.alpha > 0).astype(np.uint8)[..., None], issues
    if encoding.name == "colours":
        masks, issues[OFF] = _read_colours(path, pixels.shades, info, encoding.ground)
        near = NEAR
    elif encoding.name == "instances":
        masks = np.array(pixels.shades.any(axis=2, keepdims=True), np.uint8)
    elif stored is None:
        raise FormatError(f"{path}: is in colours, the other masks are not; save it like them")
    elif encoding.name == "index":
        values = np.array(class_values(info))
        if wrong := sorted(set(np.unique(stored).tolist()) - {0, VOID, *values.tolist()}):
            raise FormatError(f"{path}: holds {wrong[0]}, which is no class's number: {values.tolist()}")
        masks = (stored[..., None] == values).astype(np.uint8)
        issues[VOIDS] = 0 if VOID in values else int(np.count_nonzero(stored == VOID))
    else:
        bright = stored > encoding.brightest / 2
        masks = (bright ^ (encoding.name == "inverted")).astype(np.uint8)[..., None]
        issues[GREY] = int(((stored > 0) & (stored < encoding.brightest)).sum())
    if info.n_classes > 1:
        shades = [(value, value, value) for value in class_values(info)]
        shades, exact = (_flip(info.colours, encoding.ground), not issues[OFF]) if near else (shades, True)
        # Who says that masks hold numbers wants them as they are.
        mixtures = [] if info.masks else find_mixtures(shades, near, exact)
        masks, issues[RIMS] = undo_rims(masks, None if info.undo_rims else mixtures)
    return masks, issues


def _read_colours(
    path: Path, picture: np.ndarray, info: DatasetInfo, ground: Colour
) -> tuple[np.ndarray, int]:
    picture, colours = picture ^ np.array(ground, np.uint8), _flip(info.colours, ground)
    masks, n_off = masks_from_colours(picture, colours)
    counts = {unpack_colour(code): n for code, n in count_values(pack_colours(picture)).items()}
    shades, pixels = np.array(list(counts)), np.array(list(counts.values()))
    is_defect = np.linalg.norm(shades, axis=1) > NEAR
    is_far = _distance_to_mixtures(shades, np.array([BLACK, *colours], float)) > NEAR
    if pixels[is_far].sum() > FAR_SHARE * pixels[is_defect].sum():
        share = pixels[is_far].sum() / pixels[is_defect].sum()
        (worst,) = _flip([tuple(shades[np.argmax(pixels * is_far)].tolist())], ground)
        seen = f"{share:.1%} of its pixels beside the background have a colour that is no class's, as {worst}"
        way_out = 'add a class or mend "colour" in its info.json, or mend the mask'
        raise FormatError(f"{path}: {seen}; the colours of {info.name} are {info.colours}: {way_out}")
    return masks, n_off


def _flip(colours: list[Colour], ground: Colour) -> list[Colour]:
    """Colours on white are read as their complements on black; those on black stay."""
    flip = ground[0]
    return [(red ^ flip, green ^ flip, blue ^ flip) for red, green, blue in colours]


def _fit_colours(counts: Counter[Colour], colours: list[Colour], ground: Colour) -> bool:
    """Whether most of what is not background has, nearly, the colour of a class."""
    shades, pixels = np.array(list(counts), float), np.array(list(counts.values()))
    is_defect = np.linalg.norm(shades - ground, axis=1) > NEAR
    distance = np.linalg.norm(shades[:, None] - np.array(colours), axis=2).min(axis=1)
    return bool(pixels[is_defect & (distance <= NEAR)].sum() > 0.5 * pixels[is_defect].sum())


def _distance_to_mixtures(shades: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """How far colours are from all mixtures of two of a palette, which interpolation makes: (n,) 0..442."""
    best = np.full(len(shades), np.inf)
    for first, second in combinations(palette, 2):
        along = second - first
        share = ((shades - first) @ along / (along @ along)).clip(0, 1)
        best = np.minimum(best, np.linalg.norm(shades - (first + share[:, None] * along), axis=1))
    return best
