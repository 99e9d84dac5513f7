"""Experiments as their products tell them: with the settings of then, wherever the products lie."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from defectmill import files
from defectmill.config import ConfigError, Experiment, list_experiments, load_experiment
from defectmill.dataset_info import load_dataset_info, nearest, read_dataset_info
from defectmill.products.manifest import PREDICTED, read_note, tell_changes

INSPECTED = {"dataset", "predict"}  # settings that an inspection goes by, beside those of the networks


class StoredExperiment(Experiment):
    """An experiment as the files in its output folder tell it, wherever that folder lies."""

    folder: Annotated[Path, Field(exclude=True)]

    @property
    def output(self) -> Path:
        return self.folder

    def load_parts(self) -> list[Experiment]:
        return [read_output(self.folder.with_name(name)) for name in self.members] or [self]


def load_trained(model: str | Path) -> Experiment:
    """Load an experiment with the settings that it last predicted with.

    Args:
        model: its name, or the path of its output folder or of a copy of that.
    Raises:
        ConfigError: neither, or a folder that lacks its settings; see `load_predicted`.
    """
    if str(model) in list_experiments():
        return load_predicted(str(model))[0]
    folder = Path(model).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(f"{model}: no folder, and no experiment{nearest(str(model), list_experiments())}")
    return read_output(folder)


def load_predicted(name: str) -> tuple[Experiment, dict[str, Any]]:
    """Load an experiment as its thresholds were chosen: with the SET, and only with the settings, of then.

    Returns:
        It, and the overrides of its file.
    Raises:
        ConfigError: 04 has not run, or the experiment's file was edited since.
    """
    run = load_experiment(name)
    note = read_note(run.require(run.output / PREDICTED, "predict"))
    run = load_experiment(name, note["overrides"])
    then = {key: note["settings"][key] for key in INSPECTED}
    if changes := tell_changes(then, run.model_dump(mode="json", include=INSPECTED)):
        todo = f"`make predict EXPERIMENT={name}` chooses them anew; or take it back"
        raise ConfigError(f"{name}: setting {changes[0]} since its thresholds were chosen: {todo}")
    return run, note["overrides"]


def read_output(folder: Path) -> StoredExperiment:
    """Read an experiment from the settings in its output folder; see `load_trained`.

    They are those that it predicted with, or, of a member of an ensemble that has not, those of make.
    """
    try:
        values = read_note(folder / PREDICTED).get("settings") or _read_stages(folder)
        own = folder / "dataset.json"
        info = read_dataset_info(own) if own.is_file() else load_dataset_info(values["dataset"])
        values["data"].pop("defect_share", None)  # of training alone
        return StoredExperiment.model_validate(
            {**values, "name": folder.name, "info": info, "folder": folder}
        )
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        todo = f"copy all of output/<experiment>, or make it anew: `make predict EXPERIMENT={folder.name}`"
        raise ConfigError(f"{folder}: holds no settings that can be used ({why}): {todo}") from error


def _read_stages(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for stage in ("labels", "train", "predict"):
        found = json.loads(files.read_text(folder / "settings" / f"{stage}.json"))
        values |= {"predict": found} if stage == "predict" else found
    return {key: value for key, value in values.items() if key != "validation_fold"}  # in labels
