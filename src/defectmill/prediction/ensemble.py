"""Ensembles: experiments that train nothing and average the probabilities of others."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from defectmill import files
from defectmill.config import ConfigError, Experiment, list_experiments, load_experiment


def write_ensemble(members: Sequence[str], name: str) -> Path:
    """Write the experiment file of an ensemble and return its path.

    Raises:
        ConfigError: fewer than two members, members that differ in dataset, seed or folds or are ensembles
            themselves, no name, or the name of an experiment that is no ensemble.
    """
    if len(set(members)) < 2 or not name:
        raise ConfigError('an ensemble needs EXPERIMENTS="<one> <another>" and NAME=<its own name>')
    files.check_name(name, "NAME")
    runs = [load_experiment(member) for member in members]
    first, path = runs[0], files.ROOT / "notebooks" / "experiments" / f"{name}.yml"
    for run in runs:
        if run.members:
            raise ConfigError(f"{run.name} is an ensemble itself: name its members {', '.join(run.members)}")
        if (run.dataset, run.labels) != (first.dataset, first.labels):
            raise ConfigError(
                f"{run.name} and {first.name} differ in dataset or labels: the folds are not the same"
            )
    if name in list_experiments() and not load_experiment(name).members:
        raise ConfigError(f"{path} is an experiment of its own: choose another NAME")
    values: dict[str, Any] = {"dataset": first.dataset, "members": list(members)}
    values["labels"] = first.labels.model_dump()
    predict, *others = (run.predict.model_dump(mode="json", exclude_unset=True) for run in runs)
    values["predict"] = {k: v for k, v in predict.items() if all(o.get(k) == v for o in others)}
    head = f"# What: the mean probabilities of {' and '.join(members)}.\n# Command: make EXPERIMENT={name}\n"
    files.write_if_changed(path, head + yaml.safe_dump(values, sort_keys=False))
    return path


def read_members(run: Experiment) -> dict[str, dict]:
    """Read what the networks of an ensemble's members were trained on: {"<member> <network>": note}.

    Raises:
        ConfigError: a member that is not trained, or whose folds are not those of the ensemble.
    """
    notes: dict[str, dict] = {}
    for part in run.load_parts() if run.members else []:
        trained = json.loads(part.require(part.output / "networks.json", "train").read_text())
        mine, theirs = (files_of.output / "images.csv" for files_of in (run, part))
        if mine.read_bytes() != theirs.read_bytes():
            raise ConfigError(
                f"{mine} and {theirs} differ: `make labels EXPERIMENT={part.name}`, then train it"
            )
        shown = part.predict.model_dump(mode="json")
        notes |= {f"{part.name} {network}": {**n, "predict": shown} for network, n in trained.items()}
    return notes
