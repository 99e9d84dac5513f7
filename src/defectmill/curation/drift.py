"""Drift: whether new pictures look unlike those of the training, by cheap statistics of each.

They are taken of a picture as a network is shown it, at that size and in those channels; height and width
are its own.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from defectmill.config import DataSettings, Experiment
from defectmill.files import DefectmillError, write_atomically
from defectmill.images import read_image, resize_image
from defectmill.split import Split

MOST = 1000  # training pictures that are looked at
FEWEST = 10  # below, too little is known of their range
TOLD = 3  # differences of a folder
QUANTILES = (0, 0.01, 0.25, 0.75, 0.99, 1)
Shape = tuple[int, int]
ShownShape = Callable[[Shape, DataSettings], Shape]  # prediction.tiles.shown_shape


class Kind(NamedTuple):
    """One statistic.

    title: what is measured. lower, higher: what a picture is that has less or more of it. slack: how much
    less or more is never worth a word; a factor where `is_ratio`, and then logarithms are compared.
    """

    title: str
    lower: str
    higher: str
    slack: float
    is_ratio: bool = False

    def scale(self, value: float) -> float:
        """The value as it is compared."""
        return float(np.log(max(value, 1))) if self.is_ratio else value


KINDS = {
    "mean_grey": Kind("mean grey", "darker", "brighter", 6),
    "contrast": Kind("standard deviation of grey", "of less contrast", "of more contrast", 1.3, True),
    "sharpness": Kind("variance of the Laplacian", "less sharp", "sharper or noisier", 1.5, True),
    "colourfulness": Kind("colourfulness", "less colourful", "more colourful", 5),
    "height": Kind("pixels", "less high", "higher", 1.1, True),
    "width": Kind("pixels", "narrower", "wider", 1.1, True),
}


class Statistics(NamedTuple):
    """Of the training pictures: how many were looked at; QUANTILES of each statistic, by its name."""

    images: int
    quantiles: Mapping[str, Sequence[float]]


class Difference(NamedTuple):
    """A statistic of a picture that is far below (-1) or above (1) those of the training pictures."""

    name: str
    side: int
    value: float

    @property
    def word(self) -> str:
        """What the picture is."""
        return KINDS[self.name].lower if self.side < 0 else KINDS[self.name].higher


def measure_image(image: np.ndarray, data: DataSettings, shown_shape: ShownShape) -> dict[str, float]:
    """Measure one picture, (H, W, 1 or 3) uint8: the statistics of KINDS by name.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000), colourfulness that of Hasler and
    Suesstrunk (2003); grey pictures have none.
    """
    height, width = image.shape[:2]
    shown = resize_image(image, shown_shape((height, width), data))
    grey = shown[:, :, 0] if shown.shape[2] == 1 else cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)
    measures = {"mean_grey": grey.mean(), "contrast": grey.std()}
    measures["sharpness"] = cv2.Laplacian(grey, cv2.CV_32F).var()
    if shown.shape[2] == 3:
        red, green, blue = np.moveaxis(shown.astype(np.float32), 2, 0)
        opponents = red - green, (red + green) / 2 - blue
        spread, shift = (np.hypot(*(f(o) for o in opponents)) for f in (np.std, np.mean))
        measures["colourfulness"] = spread + 0.3 * shift
    return {name: float(value) for name, value in measures.items()} | {"height": height, "width": width}


def learn_statistics(run: Experiment, split: Split, shown_shape: ShownShape) -> Statistics:
    """Measure the training part, validation images among them; of more than MOST a random sample."""
    ids, data = split.images["ImageId"], run.load_parts()[0].data
    chosen = ids.sample(min(MOST, len(ids)), random_state=0)

    def measure(image_id: str) -> dict[str, float]:
        image = read_image(split.folder / image_id, data.channels, run.info.bits)
        return measure_image(image, data, shown_shape)

    with ThreadPoolExecutor() as pool:
        return summarize_measures(list(pool.map(measure, chosen)))


def summarize_measures(measures: Sequence[Mapping[str, float]]) -> Statistics:
    """Take the quantiles of what `measure_image` gave of each training picture."""
    names = measures[0] if measures else ()
    found = {name: np.quantile([m[name] for m in measures], QUANTILES).tolist() for name in names}
    return Statistics(len(measures), found)


def write_statistics(statistics: Statistics, path: Path) -> None:
    """Write output/<experiment>/training_statistics.json."""
    values = {"images": statistics.images, "at": QUANTILES, "quantiles": statistics.quantiles}
    with write_atomically(path) as part:
        part.write_text(json.dumps(values, indent=1) + "\n")


def read_statistics(path: Path) -> Statistics | None:
    """Read them back; None where an older version predicted and wrote none."""
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text())
        found = {name: [float(v) for v in values["quantiles"][name]] for name in values["quantiles"]}
        if not set(found) <= set(KINDS) or any(len(q) != len(QUANTILES) for q in found.values()):
            raise KeyError("quantiles")
        return Statistics(int(values["images"]), found)
    except (KeyError, TypeError, ValueError) as error:
        todo = f"`make predict EXPERIMENT={path.parent.name}` writes it anew"
        raise DefectmillError(f"{path}: is no table of statistics ({error}): {todo}") from error


def find_differences(measures: Mapping[str, float], training: Statistics) -> list[Difference]:
    """Find what is unlike the training: outside the 1 % and 99 % quantiles, widened on either side by the
    distance of the quartiles, or by a statistic's slack where that is more."""
    found = []
    for name, quantiles in training.quantiles.items() if training.images >= FEWEST else ():
        kind = KINDS[name]
        _, low, first, third, high, _ = map(kind.scale, quantiles)
        margin = max(third - first, np.log(kind.slack) if kind.is_ratio else kind.slack)
        value = kind.scale(measures[name])
        if side := int(value > high + margin) - int(value < low - margin):
            found.append(Difference(name, side, measures[name]))
    return found


def describe_differences(differences: Iterable[Difference], training: Statistics) -> str:
    """Say how one picture differs from those of the training; "" where it does not."""
    told = []
    for difference in differences:
        least, *_, most = training.quantiles[difference.name]
        beyond = difference.value < least if difference.side < 0 else difference.value > most
        than = f"all {training.images}" if beyond else f"99 % of the {training.images}"
        value = f"{KINDS[difference.name].title} {_say(difference.value)}"
        told.append(f"{difference.word} than {than} training pictures ({value}; they: {_span(least, most)})")
    return "; ".join(told)


def describe_folder(found: Sequence[Sequence[Difference]], training: Statistics) -> str:
    """Say in one line how the pictures of a folder differ, given what `find_differences` found of each.

    The most frequent difference comes first; "" where no picture differs.
    """
    by_word: dict[tuple[str, int], list[Difference]] = {}
    for difference in (one for differences in found for one in differences):
        by_word.setdefault((difference.name, difference.side), []).append(difference)
    told = []
    for (name, _), some in sorted(by_word.items(), key=lambda item: -len(item[1])):
        values, (least, *_, most) = [one.value for one in some], training.quantiles[name]
        span = f"{KINDS[name].title} {_span(min(values), max(values))}; they: {_span(least, most)}"
        told.append(f"{len(some)} {some[0].word} ({span})")
    differing = sum(bool(differences) for differences in found)
    head = f"{differing} of {len(found)} pictures look unlike the {training.images} training pictures"
    more = f", and in {len(told) - TOLD} more ways" * (len(told) > TOLD)
    return f"{head}: {', '.join(told[:TOLD])}{more}" if told else ""


def _say(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def _span(least: float, most: float) -> str:
    low, high = _say(least), _say(most)
    return low if low == high else f"{low} to {high}"
