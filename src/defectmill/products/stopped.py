"""A training that was stopped: what it was made from, and whether it may go on.

`training.resume` saves it, in the folder `RESUME` beside its network.
"""

import json
from typing import Any

from defectmill.config import ConfigError, Experiment
from defectmill.products.manifest import tell_changes
from defectmill.products.provenance import describe_training, find_versions
from defectmill.products.why import tell_origins

RESUME = "resume"
STATES = "*[0-9].state"  # in that folder
MADE_FROM = "made_from.json"  # there too


def describe_going_on(run: Experiment) -> dict[str, dict[str, Any]]:
    """Tell what must be the same where a training that was stopped goes on: {settings, files, versions}."""
    return {**describe_training(run), "versions": find_versions()}


def find_stopped(run: Experiment) -> dict[str, dict[str, Any]]:
    """Tell what a training of `run.network` was made from that was stopped; empty where none can go on."""
    folder = run.training_folder / RESUME
    try:
        return json.loads((folder / MADE_FROM).read_bytes()) if any(folder.glob(STATES)) else {}
    except (OSError, ValueError):
        return {}


def list_changes(run: Experiment) -> list[str]:
    """Say what changed since a training of `run.network` was stopped; nothing where none was."""
    if not (then := find_stopped(run)):
        return []
    return tell_origins(then, describe_training(run)) + tell_changes(then["versions"], find_versions())


def refuse_changed(run: Experiment) -> None:
    """Raise ConfigError where a training of `run.network` was stopped that would go on otherwise now."""
    if changes := list_changes(run):
        raise ConfigError(
            f"{run.training_folder / RESUME}: a training that was stopped would go on otherwise: "
            f"{'; '.join(changes)}. Bring that back, or throw the training away: add FRESH=1 to the command, "
            "or delete the folder"
        )
