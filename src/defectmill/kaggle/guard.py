"""Time: what a run may still take, and what is left out rather than being late.

A run that Kaggle ends has no score at all; one that averages fewer mirrored images loses a little.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from defectmill.config import Experiment

RESERVE, MOST = 0.05, 120.0  # share of the time, and seconds at most, for the table and its check
RATES = 15  # images by which the speed is known


@dataclass(frozen=True, order=True)
class Effort:
    """What an image gets: so many networks, flips and scales of theirs; units: images shown for it."""

    units: float
    networks: int
    scales: int
    flips: int

    def __str__(self) -> str:
        return f"{self.networks} networks, {self.scales} scales, {self.flips} flips"


def list_efforts(runs: Sequence[Experiment]) -> list[Effort]:
    """List all efforts that networks of these experiments allow, the greatest first."""
    most_flips = max(len(run.predict.flips) for run in runs)
    most_scales = max(len(run.predict.scales) for run in runs)
    efforts = set()
    for n_networks in range(1, len(runs) + 1):
        for n_scales in range(1, most_scales + 1):
            for n_flips in range(most_flips + 1):
                reduced = [reduce_run(run, n_scales, n_flips).predict for run in runs[:n_networks]]
                units = sum((1 + len(p.flips)) * sum(s * s for s in p.scales) for p in reduced)
                efforts.add(Effort(units, n_networks, n_scales, n_flips))
    return sorted(efforts, reverse=True)


def reduce_run(run: Experiment, n_scales: int, n_flips: int) -> Experiment:
    """Let an experiment predict with its first flips and the scales nearest to 1 only, in their order."""
    nearest = sorted(run.predict.scales, key=lambda scale: abs(math.log(scale)))[:n_scales]
    scales = tuple(scale for scale in run.predict.scales if scale in nearest)
    predict = run.predict.model_copy(update={"flips": run.predict.flips[:n_flips], "scales": scales})
    return run.model_copy(update={"predict": predict})


class TimeGuard:
    """Chooses for each image the greatest effort that leaves as much time for all others.

    Args:
        networks: (experiment, model), as `predict_folder` takes them.
        n_images: how many are to be predicted.
        seconds: that the run may take in all, from `started`, a time of `clock`; None: since this process
            was started.
    """

    def __init__(
        self,
        networks: Sequence[tuple[Experiment, Any]],
        n_images: int,
        seconds: float,
        started: float | None = None,
        clock: Callable[[], float] = time.time,
    ):
        self.networks, self.left, self.clock = networks, n_images, clock
        started = psutil.Process().create_time() if started is None else started
        self.until = started + seconds - min(MOST, RESERVE * seconds)
        self.efforts = list_efforts([run for run, _ in networks])
        self.spent = Counter[Effort]()  # images by effort
        self.unreadable: dict[str, str] = {}
        self.unpredicted: list[str] = []
        self._rates: list[float] = []  # seconds a unit; the first image takes longer than any other

    def choose(self) -> Effort | None:
        """Choose the effort of the next image; None: there is no time for any."""
        remains = self.until - self.clock()
        if remains <= 0:
            return None
        if not self._rates:
            return self.efforts[0]
        rate = median(self._rates[1:][-RATES:] or self._rates)
        share = remains / max(1, self.left)
        fits = next((effort for effort in self.efforts if effort.units * rate <= share), self.efforts[-1])
        return fits if fits.units * rate <= remains else None

    def predict(self, folder: Path, image_ids: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Yield (image id, probability map), one image at a time, of as many images as there is time for.

        The others are named in `unpredicted`, those that cannot be read, with the reason, in `unreadable`.
        """
        from defectmill.prediction.inference import predict_folder

        for image_id in image_ids:
            effort, begun = self.choose(), self.clock()
            if effort is None:
                self.unpredicted.append(image_id)
                continue
            chosen = self.networks[: effort.networks]
            if effort != self.efforts[0]:
                chosen = [(reduce_run(run, effort.scales, effort.flips), model) for run, model in chosen]
            yield from predict_folder(chosen, folder, [image_id], self.unreadable)
            self._rates.append((self.clock() - begun) / effort.units)
            self.spent[effort] += 1
            self.left -= 1

    def report(self) -> str:
        """Say how many images got which effort, and which got none."""
        lines = [f"{n:,} images with {effort}" for effort, n in sorted(self.spent.items(), reverse=True)]
        if self.unpredicted:
            lines.append(f"WARNING: {len(self.unpredicted):,} images without a prediction: the time was over")
        lines += [f"WARNING: {reason}: answered as clean" for reason in self.unreadable.values()]
        return "\n".join(lines)
