"""Surveys: what all mask files of a dataset hold, and which classes they show."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from defectmill.dataset_info import Colour
from defectmill.formats.masks.pixels import NEAR, VOID, count_values, pack_colours, read_pixels, unpack_colour
from defectmill.formats.shapes import FormatError
from defectmill.images import BLACK

WHITE: Colour = (255, 255, 255)
MOST = 32  # classes of index masks whose dataset is unknown; also the largest number that is no shade of grey


@dataclass
class Survey:
    """What all mask files of a dataset hold: how many files of which kind, pixels by number and by colour.

    coloured: files that show more than greys. numbers, greys: pixels of grey files and palettes, by what is
    stored and by how it looks. inner: pixels by colour amid eight others of the same: edges that were
    interpolated, and noise, are not. solid: as `inner`, or all of a file of at most 16 colours. framed: files
    whose frame is mostly bright. ringed: names of those that are bright all along it, and dark inside. peaks:
    grey files by their brightest. lone: files with 255 and no number beside it.
    """

    files: int = 0
    coloured: int = 0
    alpha: int = 0
    jpeg: int = 0
    framed: int = 0
    lone: int = 0
    ringed: list[str] = field(default_factory=list)
    numbers: Counter[int] = field(default_factory=Counter)
    greys: Counter[int] = field(default_factory=Counter)
    peaks: Counter[int] = field(default_factory=Counter)
    colours: Counter[Colour] = field(default_factory=Counter)
    inner: Counter[Colour] = field(default_factory=Counter)
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

    @property
    def background(self) -> Colour:
        """Black, or white where most of coloured masks is white and next to nothing black."""
        shares = [0, 0]
        for colour, pixels in self.colours.items():
            for place, ground in enumerate((BLACK, WHITE)):
                shares[place] += pixels * (float(np.linalg.norm(np.subtract(colour, ground))) <= NEAR)
        is_white = self.coloured and 2 * shares[1] > self.colours.total() > 20 * shares[0]
        return WHITE if is_white else BLACK


def survey_masks(paths: Iterable[Path]) -> Survey:
    """Look at all mask files of a dataset."""
    survey = Survey()
    for path in paths:
        pixels = read_pixels(path)
        greys = pixels.greys
        survey.files += 1
        survey.jpeg += pixels.jpeg
        survey.alpha += pixels.alpha is not None
        survey.coloured += greys is None
        if pixels.numbers is not None:
            numbers = count_values(pixels.numbers)
            survey.numbers.update(numbers)
            survey.lone += numbers.keys() - {0} == {VOID}
        if greys is not None:
            survey.greys.update(count_values(greys))
            survey.peaks[int(greys.max())] += 1
            frame = np.concatenate([greys[[0, -1]].ravel(), greys[:, [0, -1]].ravel()])
            survey.framed += float((frame > 0).mean()) > 0.5
            half = greys.max() / 2
            if (frame > half).mean() > 0.99 and (greys <= half).any():
                survey.ringed.append(path.name)
        codes = pack_colours(pixels.shades)
        counts = count_values(codes)
        inner = count_values(codes[cv2.morphologyEx(codes, cv2.MORPH_GRADIENT, np.ones((3, 3))) == 0])
        for counter, found in (
            (survey.colours, counts),
            (survey.inner, inner),
            (survey.solid, counts if len(counts) <= 16 else inner),
        ):
            counter.update({unpack_colour(code): n for code, n in found.items()})
    return survey


def find_classes(survey: Survey) -> list[tuple[Colour, int | None]]:
    """Find the classes that masks of an unknown dataset show: (colour, number in index masks, else None).

    One that is merely bright or opaque has the colour and number (BLACK, None).

    Raises:
        FormatError: colours that are all next to black, or fill no area.
    """
    colours: list[Colour] = []
    for colour, _ in survey.solid.most_common() if survey.coloured else ():
        grounds = (survey.background, *colours)
        if min(np.linalg.norm(np.subtract(colour, other)) for other in grounds) > NEAR:
            colours.append(colour)
    if survey.coloured and (len(colours) > 1 or survey.alpha < survey.files):
        if not colours:
            offence = "no colour but the background's fills an area"
            raise FormatError(f"{survey.seen}: {offence}: are these masks? save class numbers as grey")
        return [(colour, None) for colour in sorted(colours)]
    numbers = sorted(set(survey.numbers) - {0, VOID})
    # Numbers that are nowhere an area are the blurred edges of 255.
    is_blurred = VOID in survey.numbers and not any(survey.inner[n, n, n] for n in numbers)
    if VOID in survey.numbers and not is_blurred and min(numbers, default=0) > MOST:
        numbers.append(VOID)  # shades of grey, of which it is one
    is_index = not (survey.jpeg or survey.alpha or is_blurred) and 1 < len(numbers) <= MOST
    if is_index and max(numbers) <= VOID:
        return [(BLACK, number) for number in numbers]
    return [(BLACK, None)]
