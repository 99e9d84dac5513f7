"""Experiments: every knob of a run, read from notebooks/experiments/<name>.yml.

A file holds overrides of the defaults below and nothing else; an unknown knob is an error.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from defectmill.cards import Card
from defectmill.catalog import CARDS
from defectmill.knobs import DataKnobs, Knobs, LabelKnobs, ModelKnobs, PredictKnobs, TrainingKnobs

ROOT = Path(__file__).resolve().parents[2]


class ConfigError(ValueError):
    """A wrong experiment, knob, value or dataset, named, with the nearest right one."""


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
    """Find the card of a dataset: the project's own, else input/<dataset>/dataset.json.

    The file is the card as it was when the folder was made; of a dataset of the project only what
    its adapter found out counts (notes, partial, layout). Before an adapter has run, the card of
    a dataset of yours is input/<dataset>/card.json.

    Raises:
        ConfigError: there is neither, or the file is no card.
    """
    folder = ROOT / "input" / dataset
    path = folder / "dataset.json"
    if not path.is_file() and dataset in CARDS:
        return CARDS[dataset]
    if not path.is_file():
        path = folder / "card.json"
    if not path.is_file():
        raise ConfigError(
            f"no dataset {dataset!r}{_nearest(dataset, CARDS)}; your own needs "
            f"{folder / 'dataset.json'} first"
        )
    try:
        card = Card.model_validate_json(path.read_text())
    except ValidationError as error:
        raise ConfigError(f"{path}: not a dataset card: {error}") from error
    if dataset not in CARDS:
        return card
    return CARDS[dataset].model_copy(
        update={k: getattr(card, k) for k in ("notes", "partial", "layout")}
    )


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
        write_changed(folder / f"{stage}.json", json.dumps(knobs, indent=1) + "\n")


def write_changed(path: Path, text: str) -> None:
    """Write a file whole, or leave it untouched where it says the same: make goes by its time."""
    if not path.is_file() or path.read_text() != text:
        work = path.with_name(path.name + ".part")
        work.write_text(text)
        work.replace(path)


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
