"""Cost: what a run would take on this machine, from a few steps of the true network."""

import resource
import time
from dataclasses import dataclass

import pandas as pd

from defectmill import labels
from defectmill.config import ConfigError, Experiment
from defectmill.image_table import read_image_table
from defectmill.images import list_images, read_image
from defectmill.inference import predict_probs
from defectmill.models import build_model
from defectmill.sequence import DefectSequence
from defectmill.training import compile_model

STEPS = 2  # timed, after one that traces


@dataclass(frozen=True)
class Cost:
    """What was measured, and how often a run does it.

    step, predict: seconds of a training step, of a picture predicted. steps: of the whole
    training. validated: held-out pictures measured in all epochs. predicted: held-out and test
    pictures. peak_mb: the most memory so far.
    """

    step: float
    predict: float
    steps: int
    validated: int
    predicted: int
    peak_mb: int

    @property
    def seconds(self) -> float:
        """Training and prediction; a picture validated counts as one predicted."""
        return self.steps * self.step + (self.validated + self.predicted) * self.predict


def measure_cost(experiment: Experiment, table: pd.DataFrame, images: pd.DataFrame) -> Cost:
    """Train a few steps and predict a picture; nothing is written.

    Args:
        table, images: label table and image table, with folds.
    """
    held_out = images["fold"] == experiment.labels.held_out
    train = DefectSequence.of(experiment, table, images[~held_out])
    model = build_model(experiment)
    compile_model(model, experiment)
    batches = [train[n % len(train)] for n in range(STEPS + 1)]
    step = min(_time(lambda b=batch: model.train_on_batch(*b)) for batch in batches)
    folder, tests = (experiment.input / f"{part}_images" for part in ("train", "test"))
    image_id = images["ImageId"][held_out].iloc[0]
    picture = read_image(folder / image_id, experiment.data.channels)
    predict = min(_time(lambda: predict_probs(model, picture, experiment)) for _ in range(2))
    n = int(held_out.sum())
    return Cost(
        step, predict, len(train), n * experiment.training.epochs, n + len(list_images(tests)),
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    )  # fmt: skip


def _time(action) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def print_cost(experiment: Experiment) -> None:
    """Measure and print.

    Raises:
        ConfigError: 02 has not run.
    """
    out = experiment.output
    if not (out / "images.csv").is_file():
        raise ConfigError(f"{out / 'images.csv'} is missing: make labels EXPERIMENT="
                          f"{experiment.name} first")  # fmt: skip
    images = read_image_table(out / "images.csv")
    n_classes = len(experiment.card.classes)
    table = labels.read_labels(out / "labels.csv", images["ImageId"], n_classes)
    cost = measure_cost(experiment, table, images)
    print(
        f"{experiment.name}: {cost.step:.2f} s a step of {experiment.training.batch_size}, "
        f"{cost.steps:,} steps; {cost.predict:.2f} s a picture predicted, {cost.validated:,} while "
        f"training and {cost.predicted:,} after; peak memory {cost.peak_mb:,} MB\n"
        f"  in all {cost.seconds / 3600:.1f} hours on this machine, without early stop, reading "
        "and rules"
    )
