"""Mask pictures: what a pixel means is found by looking at all of a dataset's, or told by its info.

    colours   the colour of a class, black is background; true colours or a palette
    index     the number of a class (its `value`, else its id), 0 is background, 255 no class; grey, of 16
              bits, or the index in a palette
    binary    one class: brighter than half of the brightest; or, of numbers 1, 2, 3 ..., an instance each
    inverted  as binary, the defect is dark
    alpha     one class: whatever is opaque

Whatever fits none of them is refused, with what was seen.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from defectmill.dataset_info import Colour, DatasetInfo
from defectmill.formats.rims import find_mixtures, undo_rims
from defectmill.formats.shapes import FormatError
from defectmill.images import BLACK, masks_from_colours

NEAR = 40  # 0..255: colours that are no farther apart are one, saved with loss
FAR_SHARE = 0.05  # of a mask's pixels beside the background; more of unknown colours is another palette
VOID = 255  # of index masks: no class, such as the border that Pascal VOC draws
OFF = "mask pixels of a colour off the palette, taken as the nearest"
RIMS = "mask pixels of a thin rim of another class, given to what they border"
GREY = "grey mask pixels between background and defect, split at half of the brightest"
VOIDS = f"mask pixels of {VOID}, no class, taken as background"
JPEG = "JPEG mask, whose colours are not exact"


@dataclass(frozen=True)
class Pixels:
    """A mask file as it is: numbers (H, W) of a grey file or palette, colours (H, W, 3); 0 if transparent."""

    numbers: np.ndarray | None
    colours: np.ndarray | None
    alpha: np.ndarray | None = None  # (H, W) uint8, where there is any
    jpeg: bool = False


@dataclass
class Survey:
    """What all mask files of a dataset hold: how many files of which kind, pixels by number and by colour.

    solid: pixels by colour amid eight others of the same, or in a file of at most 16 colours: edges that were
    interpolated, and noise, are not. framed: files whose frame is mostly bright.
    """

    files: int = 0
    coloured: int = 0
    alpha: int = 0
    jpeg: int = 0
    framed: int = 0
    numbers: Counter[int] = field(default_factory=Counter)
    colours: Counter[Colour] = field(default_factory=Counter)
    solid: Counter[Colour] = field(default_factory=Counter)

    @property
    def seen(self) -> str:
        """What was seen, for a person."""
        kinds = {"grey": self.files - self.coloured, "in colours": self.coloured}
        kinds |= {"partly transparent": self.alpha, "JPEG": self.jpeg}
        told = f"{self.files} masks ({', '.join(f'{n} {kind}' for kind, n in kinds.items() if n)})"
        if self.numbers:
            shown = ", ".join(map(str, sorted(self.numbers)[:8])) + ", ..." * (len(self.numbers) > 8)
            told += f", numbers {shown}"
        if self.coloured:
            told += f", colours {', '.join(str(colour) for colour, _ in self.colours.most_common(5))}"
        return told


@dataclass(frozen=True)
class Encoding:
    """How masks are to be read; brightest: of binary ones, 0 where each number is an instance."""

    name: str
    brightest: int = 0


def read_pixels(path: Path) -> Pixels:
    """Read a mask file by its content; FormatError where it is none."""
    try:
        with Image.open(path) as image:
            jpeg, mode = image.format in ("JPEG", "MPO"), image.mode
            alpha = np.array(image.convert("RGBA"))[:, :, 3] if image.has_transparency_data else None
            is_grey = mode[0] in "1LIF"  # Pillow's modes: 1, L, LA, I;16, I, F
            colours = None if is_grey else np.array(image.convert("RGB"))
            numbers = np.array(image) if is_grey or mode == "P" else None
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FormatError(f"{path}: not a readable image ({error})") from error
    if alpha is not None and (alpha == VOID).all():
        alpha = None
    if colours is not None and numbers is None and (colours == colours[:, :, :1]).all():
        numbers, colours = colours[:, :, 0], None
    if numbers is not None:
        numbers = numbers[:, :, 0] if numbers.ndim == 3 else numbers
        if (numbers != np.round(numbers)).any() or numbers.min() < 0:
            low, high = numbers.min(), numbers.max()
            raise FormatError(f"{path}: a mask holds whole numbers from 0 on, not {low:g} to {high:g}")
        numbers = numbers.astype(np.int32) * (VOID if numbers.dtype == bool else 1)
    if alpha is not None:
        opaque = alpha > VOID // 2
        numbers = None if numbers is None else numbers * opaque
        colours = None if colours is None else colours * opaque[..., None]
    return Pixels(numbers, colours, alpha, jpeg)


def survey_masks(paths: Iterable[Path]) -> Survey:
    """Look at all mask files of a dataset."""
    survey = Survey()
    for path in paths:
        pixels = read_pixels(path)
        survey.files += 1
        survey.jpeg += pixels.jpeg
        survey.alpha += pixels.alpha is not None
        survey.coloured += pixels.colours is not None
        if pixels.numbers is not None:
            survey.numbers.update(_count(pixels.numbers))
            frame = np.concatenate([pixels.numbers[[0, -1]].ravel(), pixels.numbers[:, [0, -1]].ravel()])
            survey.framed += float((frame > 0).mean()) > 0.5
        codes = _pack(_colours_of(pixels))
        counts = _count(codes)
        inner = cv2.morphologyEx(codes, cv2.MORPH_GRADIENT, np.ones((3, 3))) == 0
        solid = counts if len(counts) <= 16 else _count(codes[inner])
        survey.colours.update({_unpack(code): n for code, n in counts.items()})
        survey.solid.update({_unpack(code): n for code, n in solid.items()})
    return survey


def choose_encoding(survey: Survey, info: DatasetInfo) -> Encoding:
    """Choose how the masks of a dataset are to be read, by all of them and its classes.

    Raises:
        FormatError: they fit no encoding, or look inverted; with what was seen and the way out.
    """
    numbers, told = set(survey.numbers), f"{info.name}: {survey.seen}"
    values, is_one = set(class_values(info)), info.n_classes == 1
    if info.masks:
        return Encoding(info.masks, max(numbers, default=0))
    if _fit_colours(survey.colours, info.colours):
        return Encoding("colours")
    is_index = values & numbers and numbers <= {0, VOID, *values} and not survey.jpeg
    if is_index and (not is_one or (VOID in numbers and VOID not in values)):
        return Encoding("index")
    if is_one and survey.alpha == survey.files and (survey.coloured or numbers <= {0}):
        return Encoding("alpha")
    if not survey.coloured and numbers <= {0}:
        raise FormatError(f"{told}: no mask has a defect")
    if is_one and not survey.coloured:
        return Encoding("binary", _find_brightest(survey, told))
    wanted = f"of the colours {info.colours} or the numbers {sorted(values)}"
    lossy = "; JPEG keeps neither exactly: save masks as PNG" * bool(survey.jpeg)
    raise FormatError(f'{told}: the classes are {wanted}; mend "colour" or "value" in its info.json{lossy}')


def _find_brightest(survey: Survey, told: str) -> int:
    """Find the number of a defect's pixels, 0 where each number is an instance."""
    numbers = sorted(survey.numbers)
    bright = sum(n for number, n in survey.numbers.items() if number > numbers[-1] / 2)
    share = bright / survey.numbers.total()
    if share > 0.5 and survey.framed > 0.9 * survey.files:
        seen = f"{share:.0%} of all pixels are bright, and most of the frame: inverted?"
        raise FormatError(f'{told}: {seen} Set "masks" to "inverted" in its info.json, or to "binary"')
    if survey.jpeg and numbers[-1] <= NEAR:
        raise FormatError(f"{told}: JPEG keeps no such numbers: save masks as PNG")
    if len(numbers) == 2 or numbers[-1] in (255, 65535) or survey.jpeg:
        return numbers[-1]
    if numbers[-1] == len(numbers) - 1:
        return 0
    raise FormatError(f'{told}: neither one class nor instances from 1 on; set "masks" in its info.json')


def class_values(info: DatasetInfo) -> list[int]:
    """Numbers of the classes in index masks, in the order of the channels."""
    return [kind.id if kind.value is None else kind.value for kind in info.classes]


def read_masks(path: Path, encoding: Encoding, info: DatasetInfo) -> tuple[np.ndarray, dict[str, int]]:
    """Read one mask file: (H, W, C) uint8 in {0, 1}, and {what is odd: how many pixels}.

    Raises:
        FormatError: the file does not fit the encoding.
    """
    pixels, issues, exact, near = read_pixels(path), dict[str, int](), True, 0
    numbers = pixels.numbers
    if pixels.jpeg:
        issues[JPEG] = 1
    if encoding.name == "alpha":
        if pixels.alpha is None:
            raise FormatError(f"{path}: no pixel is transparent, as in the other masks")
        return (pixels.alpha > VOID // 2).astype(np.uint8)[..., None], issues
    if encoding.name == "colours":
        masks, issues[OFF] = _read_colours(path, _colours_of(pixels), info)
        exact, near = not issues[OFF], NEAR
    elif numbers is None:
        raise FormatError(f"{path}: is in colours, the other masks are not")
    elif encoding.name == "index":
        values = np.array(class_values(info))
        if wrong := sorted(set(np.unique(numbers).tolist()) - {0, VOID, *values.tolist()}):
            raise FormatError(f"{path}: holds {wrong[0]}, which is no class's number: {values.tolist()}")
        masks = (numbers[..., None] == values).astype(np.uint8)
        issues[VOIDS] = 0 if VOID in values else int((numbers == VOID).sum())
    else:
        bright = numbers > encoding.brightest / 2
        masks = (bright ^ (encoding.name == "inverted")).astype(np.uint8)[..., None]
        issues[GREY] = int(((numbers > 0) & (numbers < encoding.brightest)).sum())
    if info.n_classes > 1:
        shades = info.colours if near else [(value, value, value) for value in class_values(info)]
        masks, issues[RIMS] = undo_rims(masks, None if info.undo_rims else find_mixtures(shades, near, exact))
    return masks, issues


def find_classes(survey: Survey) -> list[tuple[Colour, int | None]]:
    """Find the classes that masks of an unknown dataset show: (colour, number in index masks, else None).

    One that is merely bright or opaque has the colour and number (BLACK, None).
    """
    if survey.coloured and survey.alpha < survey.files:
        colours: list[Colour] = []
        for colour, n in survey.solid.most_common():
            apart = min(np.linalg.norm(np.subtract(colour, other)) for other in (BLACK, *colours))
            if apart > NEAR and n > 0:
                colours.append(colour)
        return [(colour, None) for colour in sorted(colours)]
    numbers = sorted(set(survey.numbers) - {0, VOID})
    if not survey.jpeg and not survey.alpha and 1 < len(numbers) <= 32 and max(numbers) <= 255:
        return [(BLACK, number) for number in numbers]
    return [(BLACK, None)]


def _read_colours(path: Path, colours: np.ndarray, info: DatasetInfo) -> tuple[np.ndarray, int]:
    masks, n_off = masks_from_colours(colours, info.colours)
    counts = {_unpack(code): n for code, n in _count(_pack(colours)).items()}
    shades, pixels = np.array(list(counts)), np.array(list(counts.values()))
    is_defect = np.linalg.norm(shades, axis=1) > NEAR
    is_far = _distance_to_mixtures(shades, np.array([BLACK, *info.colours], float)) > NEAR
    if pixels[is_far].sum() > FAR_SHARE * pixels[is_defect].sum():
        share = pixels[is_far].sum() / pixels[is_defect].sum()
        worst = tuple(shades[np.argmax(pixels * is_far)].tolist())
        offence = (
            f"{share:.1%} of its pixels beside the background have a colour that is no class's, as {worst}"
        )
        raise FormatError(f"{path}: {offence}; are the colours of {info.name} {info.colours}?")
    return masks, n_off


def _colours_of(pixels: Pixels) -> np.ndarray:
    if pixels.colours is not None:
        return pixels.colours
    assert pixels.numbers is not None
    return np.repeat(pixels.numbers[..., None].clip(0, VOID), 3, axis=2).astype(np.uint8)


def _fit_colours(counts: Counter[Colour], colours: list[Colour]) -> bool:
    """Whether most of what is not black has, nearly, the colour of a class."""
    shades, pixels = np.array(list(counts), float), np.array(list(counts.values()))
    is_defect = np.linalg.norm(shades, axis=1) > NEAR
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


def _pack(colours: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) float32 codes, exact, and of a type that OpenCV's morphology takes."""
    return (colours.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1])).astype(np.float32)


def _unpack(code: float) -> Colour:
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255


def _count(values: np.ndarray) -> dict[int, int]:
    found, counts = np.unique(values, return_counts=True)
    return dict(zip(found.astype(int).tolist(), counts.tolist(), strict=True))
