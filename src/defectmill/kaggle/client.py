"""What is done at Kaggle, by its own client: upload, run, submit, wait, and tell the score.

Source of the commands: kaggle-cli, docs/datasets.md, docs/kernels.md and docs/competitions.md.
"""

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
from defectmill.kaggle.bundle import DATASET, MANIFEST, NOTEBOOK, TRAIN
from defectmill.kaggle.metadata import NOBODY, write_json
from defectmill.kaggle.sessions import DONE, SESSION, STOPPED, bring_back
from defectmill.products.inputs import hash_file
from defectmill.products.manifest import read_note

PUSHED, OUTPUT = "pushed.json", "output"  # in output/<experiment>/kernel
DESCRIPTIONS = (f"{DATASET}/dataset-metadata.json", f"{NOTEBOOK}/kernel-metadata.json")
POLL = 30.0  # seconds between two questions
PATIENCE = {"dataset": 3600, "notebook": 13 * 3600, "score": 12 * 3600}  # seconds


class KaggleError(DefectmillError):
    """The client failed, or Kaggle refused; with what was said."""


def push(run: Experiment) -> dict[str, Any]:
    """Upload the dataset of `make kernel`, run the notebook there, wait, and bring back what it wrote.

    Where it was the session of a training that was stopped, the next one goes on from its output.

    Returns:
        What pushed.json tells: the notebook's id and version; of a training also how the session ended.
    Raises:
        DefectmillError: no kernel folder, no token or client, no owner, or whatever Kaggle refuses.
    """
    home = run.require(run.output / "kernel", "kernel")
    data, notebook = _read_descriptions(home)
    check_token(next(iter(notebook["competition_sources"]), ""))
    if data["id"].startswith(f"{NOBODY}/"):
        data, notebook = _name_owner(home)
    trains = notebook["code_file"] == f"{TRAIN}.ipynb"
    if trains and read_note(home / PUSHED).get("outcome") == STOPPED:
        with write_atomically(home / DESCRIPTIONS[1]) as part:
            write_json(part, {**notebook, "kernel_sources": [notebook["id"]]})
    else:
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
    if not (target / (wanted := SESSION if trains else "submission.csv")).is_file():
        raise KaggleError(f"{target}: the notebook left no {wanted}; its log is there")
    if trains:
        pushed["outcome"] = bring_back(run, target / SESSION)["outcome"]
    with write_atomically(home / PUSHED) as part:
        write_json(part, pushed)
    return pushed


def print_push(run: Experiment) -> None:
    """Push, and print what comes next."""
    pushed = push(run)
    todo = {
        None: "make submit submits it",
        DONE: f"its networks are in output/{run.name}, for the next make EXPERIMENT={run.name}",
        STOPPED: f"the time was over first: make push EXPERIMENT={run.name} goes on with the training",
    }
    print(f"  {pushed['kernel']} ran, version {pushed['version']}: {todo[pushed.get('outcome')]}")


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
        told = read_note(pushed)
        if "outcome" in told:
            todo = f"`make kernel EXPERIMENT={run.name}` and `make push` first"
            raise ConfigError(f"{pushed}: of a training, which gives no submission: {todo}")
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
    data, notebook = (read_note(home / name) for name in DESCRIPTIONS)
    return data, notebook


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [find_client(), *words]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def _call(*words: str) -> str:
    """Run the client and give what it says; KaggleError with that where it fails."""
    done = _run(*words)
    if done.returncode:
        raise KaggleError(f"kaggle {' '.join(words)}: {done.stdout.strip() or 'failed'}")
    return done.stdout.strip()
