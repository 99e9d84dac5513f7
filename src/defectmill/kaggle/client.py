"""What is done at Kaggle, by its own client: upload, run, submit, wait, and tell the score.

Source of the commands: kaggle-cli, docs/datasets.md, docs/kernels.md and docs/competitions.md.
"""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from defectmill.config import ConfigError, Experiment
from defectmill.datasets.download import check_token, find_client
from defectmill.files import DefectmillError, read_text, write_atomically
from defectmill.kaggle.bundle import DATASET, MANIFEST, NOTEBOOK
from defectmill.kaggle.metadata import NOBODY, write_json
from defectmill.products.inputs import hash_file

PUSHED, OUTPUT = "pushed.json", "output"  # in output/<experiment>/kernel
DESCRIPTIONS = (f"{DATASET}/dataset-metadata.json", f"{NOTEBOOK}/kernel-metadata.json")
POLL = 30.0  # seconds between two questions
PATIENCE = {"dataset": 3600, "notebook": 13 * 3600, "score": 12 * 3600}  # seconds


class KaggleError(DefectmillError):
    """The client failed, or Kaggle refused; with what was said."""


def push(run: Experiment) -> dict[str, Any]:
    """Upload the dataset of `make kernel`, run the notebook there, wait, and bring back what it wrote.

    Returns:
        What pushed.json tells: the notebook's id and version.
    Raises:
        DefectmillError: no kernel folder, no token or client, no owner, or whatever Kaggle refuses.
    """
    home = run.require(run.output / "kernel", "kernel")
    data, notebook = _read_descriptions(home)
    check_token(next(iter(notebook["competition_sources"]), ""))
    if data["id"].startswith(f"{NOBODY}/"):
        data, notebook = _name_owner(home)
    _upload(home / DATASET, data["id"], f"{run.name} {hash_file(home / DATASET / MANIFEST)[:12]}")
    said = _call("kernels", "push", "-p", str(home / NOTEBOOK))
    version = re.search(r"[Vv]ersion (\d+)", said)
    if not version or re.search(r"(?i)\berror\b|not valid", said):
        raise KaggleError(f"{home / NOTEBOOK}: not taken as it is: {said}")
    pushed = {"kernel": notebook["id"], "version": int(version[1]), "dataset": data["id"]}
    print(f"  runs: https://www.kaggle.com/code/{notebook['id']}, version {version[1]}", flush=True)
    _wait("notebook", lambda: _ask_notebook(notebook["id"]), ("complete",))
    target = home / OUTPUT
    _call("kernels", "output", notebook["id"], "-p", str(target), "-o")
    if not (target / "submission.csv").is_file():
        raise KaggleError(f"{target}: the notebook left no submission.csv; its log is there")
    with write_atomically(home / PUSHED) as part:
        write_json(part, pushed)
    return pushed


def submit(run: Experiment, competition: str) -> dict[str, float]:
    """Submit what was pushed, or where nothing was the file submissions/<experiment>.csv, and wait.

    Args:
        competition: the name in its address.
    Returns:
        {"publicScore": ..., "privateScore": ...}, those that Kaggle tells.
    Raises:
        DefectmillError: no competition, nothing to submit, no token or client, or whatever Kaggle refuses.
    """
    if not competition:
        raise ConfigError(f"{run.name}: say COMPETITION=<the name in its address at Kaggle>")
    check_token(competition)
    pushed = run.output / "kernel" / PUSHED
    if pushed.is_file():
        told = _read(pushed)
        kernel, version = told["kernel"], str(told["version"])
        what, message = f"version {version} of {kernel}", f"{run.name}, version {version}"
        words = ["-f", "submission.csv", "-k", kernel, "-v", version]
    else:
        path = run.require(run.submission, "predict")
        what, message = str(path), f"{run.name} {hash_file(path)[:12]}"
        words = ["-f", str(path)]
    print(f"  submits {what} to {competition}", flush=True)
    said = _call("competitions", "submit", competition, *words, "-m", message)
    if re.search(r"(?i)\berror\b|could not", said):
        raise KaggleError(f"{competition}: {said}")
    row = _wait("score", lambda: _find_row(competition, message), ("complete",))
    return {name: float(row[name]) for name in ("publicScore", "privateScore") if row.get(name, "")}


def _upload(folder: Path, dataset: str, message: str) -> None:
    """Make the dataset, or a new version where it is there, and wait until it can be attached."""
    is_there = not _run("datasets", "status", dataset).returncode
    how = ("version", "-m", message) if is_there else ("create",)
    said = _call("datasets", how[0], "-p", str(folder), *how[1:], "-r", "zip")
    if re.search(r"(?i)\berror\b|exception", said):
        raise KaggleError(f"{folder}: {said}")
    print(f"  uploaded: https://www.kaggle.com/datasets/{dataset}", flush=True)
    _wait("dataset", lambda: {"status": _call("datasets", "status", dataset)}, ("ready",))


def _ask_notebook(kernel: str) -> dict[str, str]:
    return {"status": _call("kernels", "status", kernel)}


def _find_row(competition: str, message: str) -> dict[str, str]:
    """The newest submission with this message; its status is "pending" as long as there is none."""
    said = _call("competitions", "submissions", competition, "-v", "-q")
    lines = said.splitlines()
    head = next((n for n, line in enumerate(lines) if "publicScore" in line), None)
    if head is None:
        return {"status": "pending"}
    table = pd.read_csv(StringIO("\n".join(lines[head:])), dtype=str, keep_default_na=False)
    rows = table[table["description"] == message].to_dict("records")
    return {str(key): value for key, value in rows[0].items()} if rows else {"status": "pending"}


def _wait(what: str, ask: Callable[[], dict[str, str]], done: Iterable[str]) -> dict[str, str]:
    """Ask again and again until a status is one of `done`; KaggleError: it failed, or it takes too long."""
    began, poll = time.monotonic(), float(os.environ.get("DEFECTMILL_KAGGLE_POLL", POLL))
    while True:
        told = ask()
        status = told["status"].lower()
        if any(word in status for word in done):
            return told
        if re.search("error|fail|cancel", status):
            reason = " ".join(filter(None, [told["status"], told.get("errorDescription", "")]))
            raise KaggleError(f"{what}: {reason}")
        if time.monotonic() - began > PATIENCE[what]:
            hours = PATIENCE[what] / 3600
            raise KaggleError(f"{what}: still {told['status']} after {hours:g} h: look at it on kaggle.com")
        time.sleep(poll)


def _name_owner(home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask the client whose token it is, and put the name into both descriptions."""
    said = re.search(r"username: *(\S+)", _call("config", "view"))
    if not said or said[1] == "None":
        raise ConfigError("whose account? say OWNER=<your name at Kaggle>, with make kernel")
    for path in (home / name for name in DESCRIPTIONS):
        text = read_text(path).replace(f"{NOBODY}/", f"{said[1]}/")
        with write_atomically(path) as part:
            part.write_text(text, encoding="utf-8")
    return _read_descriptions(home)


def _read_descriptions(home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    data, notebook = (_read(home / name) for name in DESCRIPTIONS)
    return data, notebook


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error}): `make kernel` writes it anew") from error


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [find_client(), *words]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def _call(*words: str) -> str:
    """Run the client and give what it says; KaggleError with that where it fails."""
    done = _run(*words)
    if done.returncode:
        raise KaggleError(f"kaggle {' '.join(words)}: {done.stdout.strip() or 'failed'}")
    return done.stdout.strip()
