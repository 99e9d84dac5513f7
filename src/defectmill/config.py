"""Experiments: every knob of a run, read from notebooks/experiments/<name>.yml.

A file holds overrides of the defaults below and nothing else; an unknown knob is an error.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from defectmill.cards import CARDS, Card

ROOT = Path(__file__).resolve().parents[2]


class ConfigError(ValueError):
    """A wrong experiment, knob, value or dataset, named, with the nearest right one."""


class Knobs(BaseModel):
    """Frozen, and refusing what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=16, le=4096)]


class LabelKnobs(Knobs):
    """Folds. `held_out` is the fold that training never sees."""

    n_folds: Annotated[int, Field(ge=2)] = 5
    held_out: Annotated[int, Field(ge=0)] = 0
    near_duplicate: Share = 0.9

    @model_validator(mode="after")
    def _held_out_exists(self) -> "LabelKnobs":
        if self.held_out >= self.n_folds:
            raise ValueError(f"held_out {self.held_out} is no fold of {self.n_folds}")
        return self


class DataKnobs(Knobs):
    """What the network is shown.

    resize: whole pictures brought to `shape`; crop: windows of `shape` at the scale `scale`,
    `defect_share` of them around a defect of classes in turn.
    """

    mode: Literal["resize", "crop"] = "crop"
    shape: tuple[Side, Side] = (128, 128)
    scale: Annotated[float, Field(gt=0, le=4)] = 1.0
    channels: Literal[1, 3] = 1
    images: Literal["all", "defects"] = "all"
    defect_share: Share = 0.8
    augment: str = "flips"


class ModelKnobs(Knobs):
    """The network. `widths`: encoder levels then bottom (unet), decoder levels (encoder_unet)."""

    name: Literal["unet", "encoder_unet"] = "unet"
    head: Literal["multilabel", "multiclass"] = "multilabel"
    widths: tuple[Positive, ...] = (8, 16, 32, 64, 64, 128)
    up_widths: tuple[Positive, ...] = (64, 32, 32, 16, 8)
    activation: str = "elu"
    normalization: Literal["none", "batch", "group"] = "none"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    pretrained: bool = True


class TrainingKnobs(Knobs):
    """How it learns. One epoch is `steps` batches, or every image once where steps is 0."""

    epochs: Positive = 10
    steps: Annotated[int, Field(ge=0)] = 0
    batch_size: Positive = 16
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clipnorm: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    schedule: Literal["reduce", "cosine"] = "reduce"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    loss: dict[Literal["cross_entropy", "dice", "focal"], Annotated[float, Field(ge=0)]] = {
        "cross_entropy": 1.0,
        "dice": 1.0,
    }
    early_stop: Positive = 10
    reducer_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    reducer_patience: Positive = 4
    precision: Literal["float32", "mixed_bfloat16"] = "float32"


class PredictKnobs(Knobs):
    """How masks are made. `flips`: averaged mirror images; areas in pixels of the picture."""

    flips: tuple[Literal["horizontal", "vertical", "both"], ...] = ()
    thresholds: tuple[Share, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    minimum_areas: tuple[Annotated[int, Field(ge=0)], ...] = (0, 50, 100, 200, 400, 800, 1600)


class Experiment(Knobs):
    """A named set of knobs."""

    name: str
    dataset: str
    about: str = ""
    cost: str = ""
    score: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    labels: LabelKnobs = LabelKnobs()
    data: DataKnobs = DataKnobs()
    model: ModelKnobs = ModelKnobs()
    training: TrainingKnobs = TrainingKnobs()
    predict: PredictKnobs = PredictKnobs()

    @property
    def card(self) -> Card:
        return load_card(self.dataset)

    @property
    def input(self) -> Path:
        return ROOT / "input" / self.dataset

    @property
    def output(self) -> Path:
        return ROOT / "output" / self.name

    @property
    def submission(self) -> Path:
        return ROOT / "submissions" / f"{self.name}.csv"


def list_experiments() -> list[str]:
    """Names of all experiment files, sorted."""
    return sorted(p.stem for p in (ROOT / "notebooks" / "experiments").glob("*.yml"))


def load_experiment(name: str, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment.

    Args:
        name: of a file in notebooks/experiments, without .yml.
        overrides: knobs over the file's, nested or dotted: {"training.epochs": 3}.
    Raises:
        ConfigError: unknown experiment, knob or dataset (with the nearest right name), or a
            value of the wrong type.
    """
    path = ROOT / "notebooks" / "experiments" / f"{name}.yml"
    if name not in list_experiments():
        raise ConfigError(f"no experiment {name!r}{_nearest(name, list_experiments())}")
    try:
        knobs = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(knobs, dict):
        raise ConfigError(f"{path}: holds {type(knobs).__name__}, not knobs")
    for key, value in (overrides or {}).items():
        _set_knob(knobs, key.split("."), value, key)
    if "name" in knobs:
        raise ConfigError(f"{path}: knob 'name' = {knobs['name']!r}: the file's name gives it")
    try:
        experiment = Experiment.model_validate({**knobs, "name": name})
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from error
    _ = experiment.card
    return experiment


def load_card(dataset: str) -> Card:
    """Find the card of a dataset: input/<dataset>/dataset.json, else the project's own.

    The file is the project's card plus what its adapter noted.

    Raises:
        ConfigError: there is neither, or the file is no card.
    """
    path = ROOT / "input" / dataset / "dataset.json"
    if not path.is_file():
        if dataset in CARDS:
            return CARDS[dataset]
        raise ConfigError(
            f"no dataset {dataset!r}{_nearest(dataset, CARDS)}; your own needs {path} first"
        )
    try:
        return Card.model_validate_json(path.read_text())
    except ValidationError as error:
        raise ConfigError(f"{path}: not a dataset card: {error}") from error


def parse_overrides(text: str) -> dict[str, Any]:
    """Read make's SET: "training.epochs=3 data.shape=[64,96]"; blanks part the knobs."""
    overrides = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise ConfigError(f"SET takes knob=value, not {word!r}")
        try:
            overrides[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"SET {word!r}: not a value; it may hold no blank") from error
    return overrides


def write_stage_knobs(experiment: Experiment, folder: Path) -> None:
    """Write the knobs of each stage, touching only files whose content changes.

    make rebuilds a stage when its file is newer: a new threshold grid never retrains.
    """
    shared = {"dataset": experiment.dataset, "seed": experiment.seed}
    stages = {
        "labels": {**shared, "labels": experiment.labels.model_dump(mode="json")},
        "train": {
            **shared,
            **{k: getattr(experiment, k).model_dump(mode="json") for k in
               ("data", "model", "training")},
        },
        "predict": experiment.predict.model_dump(mode="json"),
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    for stage, knobs in stages.items():
        path, text = folder / f"{stage}.json", json.dumps(knobs, indent=1) + "\n"
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def _set_knob(knobs: dict, path: list[str], value: Any, key: str) -> None:
    for part in path[:-1]:
        knobs = knobs.setdefault(part, {})
        if not isinstance(knobs, dict):
            raise ConfigError(f"knob {key!r}: {part!r} has no knobs inside")
    last = path[-1]
    if isinstance(value, Mapping) and isinstance(knobs.get(last), dict):
        for inner, inner_value in value.items():
            _set_knob(knobs[last], [inner], inner_value, f"{key}.{inner}")
    else:
        knobs[last] = value


def _explain(error: ValidationError, path: Path) -> str:
    lines = []
    for offence in error.errors():
        knob = ".".join(str(part) for part in offence["loc"])
        if offence["type"] == "extra_forbidden":
            section: Any = Experiment
            for part in offence["loc"][:-1]:
                section = section.model_fields[part].annotation
            nearest = _nearest(str(offence["loc"][-1]), section.model_fields)
            lines.append(f"unknown knob {knob!r}{nearest}")
        else:
            lines.append(f"knob {knob!r} = {offence['input']!r}: {offence['msg']}")
    return f"{path}: " + "; ".join(lines)


def _nearest(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known)}"
