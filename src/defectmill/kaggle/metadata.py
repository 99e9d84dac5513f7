"""What Kaggle is told of a dataset and of a notebook, by its rules for titles and for names in addresses.

Source: kaggle-cli, docs/datasets_metadata.md and docs/kernels_metadata.md.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defectmill.config import ConfigError
from defectmill.datasets.download import find_token
from defectmill.files import read_text

LONGEST, SHORTEST = 50, 6  # letters of a title, and of its name in the address
MACHINE = "NvidiaTeslaT4"  # else Kaggle takes a P100, which it takes away
READS = {"predict": "model", "train": "training"}  # what a notebook reads: the last word of a title
NOBODY = "your-name"  # as long as nobody said whose it is
_SLUG = re.compile("[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Place:
    """Where at Kaggle: the owner's name, the competition's (may be empty), and hours that a run may take."""

    owner: str
    competition: str
    hours: float


def check_place(owner: str, competition: str, hours: str) -> Place:
    """Check what make was given; "" for the owner: the one of the token, where that tells it.

    ConfigError: a name that is none in an address at Kaggle, or hours that are no number from 0.1 to 12.
    """
    owner = owner or _find_owner()
    for what, name in (("OWNER", owner), ("COMPETITION", competition)):
        if name and not _SLUG.fullmatch(name):
            wanted = "the name in its address at Kaggle is wanted, small letters, digits and dashes"
            raise ConfigError(f"{what}={name}: {wanted}")
    try:
        given = float(hours)
    except ValueError:
        given = 0
    if not 0.1 <= given <= 12:
        raise ConfigError(f"HOURS={hours}: a number from 0.1 to 12 is wanted, what the competition allows")
    return Place(owner or NOBODY, competition, given)


def make_title(experiment: str, what: str) -> str:
    """Make the title of what belongs to an experiment, 6 to 50 letters; a long name is cut, and marked."""
    words = slug_of(experiment)
    if len(f"defectmill {words} {what}") > LONGEST or words != experiment:  # others may be cut alike
        mark = hashlib.sha256(experiment.encode()).hexdigest()[:6]
        room = LONGEST - len(f"defectmill  {mark} {what}")
        words = f"{words[:room].strip('-')} {mark}"
    return f"defectmill {words} {what}"


def slug_of(title: str) -> str:
    """Name a title in an address as Kaggle does: small letters and digits, dashes for all else."""
    return re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")


def describe_dataset(experiment: str, place: Place, what: str) -> dict[str, Any]:
    """Make dataset-metadata.json, of what a notebook reads: title, id and exactly one licence."""
    title = make_title(experiment, READS[what])
    return {"title": title, "id": f"{place.owner}/{slug_of(title)}", "licenses": [{"name": "other"}]}


def describe_kernel(experiment: str, place: Place, what: str) -> dict[str, Any]:
    """Make kernel-metadata.json of the notebook `what`, predict or train; its title's name is its id."""
    title = make_title(experiment, what)
    return {
        "id": f"{place.owner}/{slug_of(title)}",
        "title": title,
        "code_file": f"{what}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": True,
        "enable_internet": False,  # the client's own default is true, and no code competition takes that
        "machine_shape": MACHINE,
        "dataset_sources": [describe_dataset(experiment, place, what)["id"]],
        "competition_sources": [place.competition] if place.competition else [],
        "kernel_sources": [],
        "model_sources": [],
    }


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a description as the client reads it."""
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _find_owner() -> str:
    """The name that the environment or the legacy key tells; a token of today tells none."""
    if given := os.environ.get("KAGGLE_USERNAME"):
        return given
    path = find_token("kaggle.json")
    try:
        return str(json.loads(read_text(path)).get("username", "")) if path.is_file() else ""
    except (ValueError, AttributeError):
        return ""
