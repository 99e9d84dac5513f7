"""Cost: what a run would take on this machine, by a few steps of its network, and what fits a budget."""

import re
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from timeit import repeat, timeit
from typing import Any

import yaml

from defectmill import files
from defectmill.config import ConfigError, Experiment, load_experiment, set_value
from defectmill.curation.facts import read_facts
from defectmill.images import list_images, read_image
from defectmill.models import build_model
from defectmill.prediction.inference import predict_probs
from defectmill.split import Split, load_split
from defectmill.training.fit import compile_model
from defectmill.training.plan import ENCODERS, ENOUGH, Choice, Choices, Speed, draft, propose
from defectmill.training.sequences import make_sequences

STEPS = 2  # timed, after one that traces


@dataclass(frozen=True)
class Cost:
    """Durations, and how often a run has them."""

    step: float  # seconds of a training step
    predict: float  # seconds to predict an image
    steps: int  # of the whole training, of all networks
    validated: int  # images of the validation fold, in all epochs
    predicted: int  # images of the validation fold, and test images by each network
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
    n_test = len(list_images(run.input / "test_images", missing_ok=True)) * len(run.test_networks())
    steps = len(train) * len(run.fold_networks) + train.steps_per_epoch * run.training.last_fit
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return Cost(step, predict, steps, len(ids) * run.training.epochs, len(ids) + n_test, peak_mb)


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


def parse_budget(text: str) -> int:
    """Read a duration such as 1h30min, in seconds; ConfigError where it is none."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)min)?(?:(\d+)s)?", text.strip())
    hours, minutes, seconds = (int(n or 0) for n in found.groups()) if found else (0, 0, 0)
    if not (total := 3600 * hours + 60 * minutes + seconds):
        raise ConfigError(f"BUDGET={text}: not a duration; write 30min, 1h, 90s or 1h30min")
    return total


def print_plan(run: Experiment, fixed: Mapping[str, Any], budget: str) -> Path:
    """Print settings that fit a budget, and write them to output/<experiment>/plan.yml, which is given.

    Args:
        run: its dataset and its tables count, not its settings.
        fixed: settings by dotted name that stay as they are.
        budget: see `parse_budget`.
    Raises:
        DefectmillError: no such budget, or it leaves no time to train; `make labels` has not run.
    """
    seconds = parse_budget(budget)
    first = draft(read_facts(run, load_split(run)), fixed)
    speeds: dict[str, Speed] = {}
    for encoder in [fixed["model.encoder"]] if "model.encoder" in fixed else ENCODERS:
        speeds[encoder] = _measure_speed(run, first, encoder)
        plan = propose(first, speeds, seconds)
        if plan.steps(speeds[encoder], seconds) < ENOUGH:
            break
    more = propose(first, speeds, 2 * seconds)
    speed = speeds[plan.get("model.encoder")]
    times = plan.times(speed, plan.get("training.steps") * plan.get("training.epochs"))
    print(f"{'setting':24}{'value':46}why")
    for setting, (value, reason) in plan.made.items():
        print(f"{setting:24}{_to_yaml(value):46}{reason}")
    print(f"\n{speed.step:.2f} s a step, {speed.predict:.2f} s an image predicted; minutes of {budget}:")
    for part, took in {**times, "in all": sum(times.values())}.items():
        print(f"  {part:28}{took / 60:6.1f}")
    print("\nTwice the time would give:")
    for setting, (value, reason) in more.made.items():
        if value != (now := plan.get(setting)):
            print(f"  {setting:24}{_to_yaml(value)} instead of {_to_yaml(now)}: {reason}")
    if more.values == plan.values:
        print("  nothing more")
    path = run.output / "plan.yml"
    files.write_if_changed(path, plan_to_text(run, plan, budget, sum(times.values())))
    return path


def plan_to_text(run: Experiment, plan: Choices, budget: str, seconds: float) -> str:
    """Write a plan as an experiment file, reasons as comments."""
    values: dict[str, Any] = {"dataset": run.dataset, "cost": f"{seconds / 60:.0f} min by make plan"}
    values |= {section: {} for section in ("labels", "data", "model", "training", "predict")}
    # What chooses the class of a section comes first: it drops the settings of the former choice.
    for setting in sorted(plan.made, key=lambda s: (s.count("."), not s.endswith((".mode", ".name")))):
        set_value(values, setting, plan.get(setting))
    lines = [
        f"# What: {run.info.title}, as `make plan EXPERIMENT={run.name} BUDGET={budget}` proposes it.",
        f"# Command: make EXPERIMENT={run.name}",
    ]
    for section, inside in values.items():
        lines.append(f"{section}:" if isinstance(inside, dict) else f"{section}: {_to_yaml(inside)}")
        for key, value in inside.items() if isinstance(inside, dict) else ():
            reason = plan.made.get(f"{section}.{key}", Choice(value)).reason
            lines.append(f"  {key}: {_to_yaml(value)}  # {reason}")
    return "\n".join(lines) + "\n"


def _measure_speed(run: Experiment, choices: Choices, encoder: str) -> Speed:
    """Measure a draft's network; the fold that validates does not matter."""
    trial = {"labels.validation_fold": 0, "predict.scales": [1.0], "training.steps": 1 + STEPS}
    trial |= {"training.clipvalue": 0.0, "training.ema": 0.0, "data.images": "all"}  # not the file's
    settings = {"training.schedule.name": "cosine", **choices.values, **trial, "model.encoder": encoder}
    tried = load_experiment(run.name, settings)
    cost = measure_cost(tried, load_split(tried))
    return Speed(cost.step, cost.predict)


def _to_yaml(value: Any) -> str:
    """A value on one line."""
    return yaml.safe_dump([value], default_flow_style=True, sort_keys=False, width=1000).strip()[1:-1]
