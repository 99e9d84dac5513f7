"""Cost: what a run would take on this machine, measured on a few steps of its network."""

import resource
from dataclasses import dataclass
from functools import partial
from timeit import repeat, timeit

from defectmill.config import Experiment
from defectmill.images import list_images, read_image
from defectmill.labels import Split, load_split
from defectmill.models import build_model
from defectmill.prediction.inference import predict_probs
from defectmill.training.fit import compile_model
from defectmill.training.sequences import make_sequences

STEPS = 2  # timed, after one that traces


@dataclass(frozen=True)
class Cost:
    """Durations, and how often a run has them."""

    step: float  # seconds of a training step
    predict: float  # seconds to predict an image
    steps: int  # of the whole training
    validated: int  # images of the validation fold, in all epochs
    predicted: int  # images of the validation fold and test images
    peak_mb: int  # the most memory so far

    @property
    def seconds(self) -> float:
        """Training and prediction; an image validated counts as one predicted."""
        return self.steps * self.step + (self.validated + self.predicted) * self.predict


def measure_cost(run: Experiment, split: Split) -> Cost:
    """Train a few steps and predict an image; nothing is written."""
    train, _ = make_sequences(run, split)
    model = build_model(run)
    compile_model(model, run)
    batches = [train[n % len(train)] for n in range(STEPS + 1)]
    step = min(timeit(partial(model.train_on_batch, *batch), number=1) for batch in batches)
    ids = split.validation["ImageId"]
    image = read_image(run.input / "train_images" / ids.iloc[0], run.data.channels)
    predict = min(repeat(partial(predict_probs, model, image, run), repeat=2, number=1))
    n_test = len(list_images(run.input / "test_images"))
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Cost(step, predict, len(train), len(ids) * run.training.epochs, len(ids) + n_test, peak_mb)


def print_cost(run: Experiment) -> None:
    """Measure and print; ConfigError where `make labels` has not run."""
    cost = measure_cost(run, load_split(run))
    print(
        f"{run.name}: {cost.step:.2f} s a step of {run.training.batch_size}, {cost.steps:,} steps; "
        f"{cost.predict:.2f} s an image predicted, {cost.validated:,} while training and "
        f"{cost.predicted:,} after; peak memory {cost.peak_mb:,} MB\n"
        f"  in all {cost.seconds / 3600:.1f} hours on this machine; early stop, reading of images and the "
        "search for thresholds do not count"
    )
