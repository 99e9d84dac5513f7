"""What Kaggle is sent runs there: with Kaggle's versions, without a network, from what is attached.

Slow: a tiny experiment is trained. Where there is no such environment (make test-kaggle makes it) it skips.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from defectmill.files import ROOT
from defectmill.labels import read_labels

KAGGLE = Path(os.environ.get("DEFECTMILL_KAGGLE_VENV") or ROOT / ".venv-kaggle")
EXPERIMENT = """
dataset: sample
labels: {n_folds: 2, validation_fold: every}
data: {shape: [64, 96], scale: 0.5, augment: steel}
model: {name: encoder_unet, up_widths: [16, 12, 8, 8], normalization: batch, frozen: 3}
training: {epochs: 1, steps: 20, batch_size: 8, learning_rate: 0.003, keep: last, schedule: {name: cosine}}
predict: {flips: [horizontal, vertical], scales: [1.0, 1.25], image_recall: 0.8}
"""
SMALL = """
dataset: sample
labels: {n_folds: 2}
data: {shape: [64, 96]}
model: {name: unet, widths: [8, 16, 16], up_widths: [16, 8]}
training: {epochs: 6, steps: 50, batch_size: 8, keep: last, schedule: {name: cosine}, save_every: 1}
"""
# In a network namespace of its own, which has nothing but itself.
NO_NETWORK = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (KAGGLE / "bin" / "python").is_file(), reason="make test-kaggle makes what it needs"
    ),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with two experiments, of which the small one is packed to be trained."""
    home = tmp_path_factory.mktemp("project")
    (home / "notebooks" / "experiments").mkdir(parents=True)
    (home / "notebooks" / "experiments" / "tiny.yml").write_text(EXPERIMENT)
    (home / "notebooks" / "experiments" / "small.yml").write_text(SMALL)
    run_here(home, "input sample", "kernel-train small --owner=jane --competition=steel")
    return home


@pytest.fixture(scope="module")
def packed(project):
    """The project with the tiny experiment trained, predicted and packed."""
    steps = ("settings tiny", "notebook 02_labels tiny", "train tiny", "notebook 04_predict tiny")
    run_here(project, *steps, "kernel tiny --owner=jane --competition=steel")
    return project


def run_here(home: Path, *commands: str) -> None:
    environment = {**os.environ, "DEFECTMILL_HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
    for words in commands:
        command = [sys.executable, "-m", "defectmill", *words.split()]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of an environment with pip and Kaggle's packages, in which nothing else is installed yet."""
    home = tmp_path_factory.mktemp("kaggle") / "venv"
    subprocess.run([KAGGLE / "bin" / "python", "-m", "venv", home], check=True)
    (packages,) = (KAGGLE / "lib").glob("python3*/site-packages")
    (own,) = (home / "lib").glob("python3*/site-packages")
    (own / "kaggle.pth").write_text(f"{packages}\n")
    return home / "bin" / "python"


def run_there(python, notebook: Path, attached: Path, working: Path, /, **parameters) -> str:
    """Run a notebook as Kaggle does, and give what it printed."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "DEFECTMILL_HOME", "VIRTUAL_ENV")}
    environment = {**kept, "DEFECTMILL_KAGGLE_INPUT": str(attached), "TF_CPP_MIN_LOG_LEVEL": "3"}
    given = [word for key, value in parameters.items() for word in ("-p", key, str(value))]
    papermill = [str(python), "-m", "papermill", "--log-output", "-k", "python3", str(notebook), "done.ipynb"]
    working.mkdir()
    done = subprocess.run(
        [*NO_NETWORK, *papermill, *given],
        cwd=working,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def attach(project, folder: Path, place: str, name: str = "tiny") -> Path:
    """Attach the dataset of a kernel, and the competition's files as Kaggle has them, in `place`."""
    shutil.copytree(project / "output" / name / "kernel" / "dataset", folder / f"defectmill-{name}")
    left_out = shutil.ignore_patterns("solution.csv", "dataset.json", "issues.csv", ".*")
    shutil.copytree(project / "input" / "sample", folder / place, ignore=left_out)
    return folder


def test_no_network_is_none():
    code = "import socket; socket.create_connection(('1.1.1.1', 53), 3)"
    done = subprocess.run(
        [*NO_NETWORK, sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "OSError" in done.stderr, "unshare is not permitted here"


@pytest.mark.parametrize("place", ["steel", "competitions/steel"])
def test_the_masks_are_those_of_here_to_the_last_pixel(packed, python, tmp_path, place):
    attached = attach(packed, tmp_path / "input", place)
    notebook = packed / "output" / "tiny" / "kernel" / "notebook" / "predict.ipynb"
    told = run_there(python, notebook, attached, tmp_path / "working", working=tmp_path / "working")
    assert "80 images with 2 networks, 2 scales, 2 flips" in told
    here, there = packed / "submissions" / "tiny.csv", tmp_path / "working" / "submission.csv"
    assert read_labels(here)["hasMask"].sum() > 5
    assert there.read_bytes() == here.read_bytes()


def test_where_there_is_no_time_the_submission_is_whole_nevertheless(packed, python, tmp_path):
    attached = attach(packed, tmp_path / "input", "steel")
    notebook = packed / "output" / "tiny" / "kernel" / "notebook" / "predict.ipynb"
    working = tmp_path / "working"
    told = run_there(python, notebook, attached, working, working=working, seconds=0.01)
    assert "80 images without a prediction: the time was over" in told
    table = pd.read_csv(working / "submission.csv", keep_default_na=False)
    sample = pd.read_csv(packed / "input" / "sample" / "sample_submission.csv")
    assert table.iloc[:, 0].tolist() == sample.iloc[:, 0].tolist()
    assert (table["EncodedPixels"] == "").all()


def test_a_notebook_opened_alone_installs_the_wheel_and_reads_what_is_attached(project, python, tmp_path):
    attached = attach(project, tmp_path / "input", "datasets/jane/sample", "small")
    working = tmp_path / "working"
    run_there(python, ROOT / "notebooks" / "01_eda.ipynb", attached, working)
    assert (working / "output" / "sample" / "eda.csv").is_file()
    executed = json.loads((working / "done.ipynb").read_text())
    assert [c for c in executed["cells"] if c.get("metadata", {}).get("papermill", {}).get("exception")] == []


def train_there(
    project, python, folder: Path, seconds: float, before: Path | None = None
) -> tuple[str, Path]:
    """Run a session of the small training, with what the one before left: what it printed, what it left."""
    attached = attach(project, folder / "input", "competitions/steel", "small")
    if before:
        (attached / "notebooks" / "small").mkdir(parents=True)
        shutil.copy(before, attached / "notebooks" / "small")
    notebook = project / "output" / "small" / "kernel" / "notebook" / "train.ipynb"
    working = folder / "working"
    told = run_there(python, notebook, attached, working, working=working, seconds=seconds)
    assert {path.name for path in working.iterdir()} == {"done.ipynb", "training.session"}
    return told, working / "training.session"


def read_session(session: Path) -> tuple[bytes, dict[str, np.ndarray]]:
    """The history and the weights of the network in a session."""
    with zipfile.ZipFile(session) as archive:
        history = archive.read("output/history.csv")
        with zipfile.ZipFile(BytesIO(archive.read("output/model.keras"))) as model:
            data = BytesIO(model.read("model.weights.h5"))
    weights: dict[str, np.ndarray] = {}
    with h5py.File(data) as file:
        file.visititems(
            lambda name, item: weights.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
        )
    return history, weights


def time_of_training(session: Path) -> list[float]:
    """When Keras began and ended to train, in seconds since 1970."""
    with zipfile.ZipFile(session) as archive:
        cells = json.loads(archive.read("output/notebooks/03_train.ipynb"))["cells"]
    (cell,) = (cell for cell in cells if "".join(cell["source"]).startswith("model.fit("))
    told = cell["metadata"]["papermill"]
    times = (datetime.fromisoformat(told[f"{end}_time"]) for end in ("start", "end"))
    return [moment.replace(tzinfo=UTC).timestamp() for moment in times]


def test_a_training_that_time_stopped_goes_on_in_the_next_session_to_the_same_network(
    project, python, tmp_path
):
    began = time.time()
    told, whole = train_there(project, python, tmp_path / "whole", 36000)
    assert "small: the first session" in told
    assert "small: done" in told
    seconds = sum(time_of_training(whole)) / 2 - began  # until the middle of the training
    for n in range(6):  # the machine may be busier or idler than it was
        told, first = train_there(project, python, tmp_path / f"first{n}", seconds / 0.95)
        with zipfile.ZipFile(first) as archive:
            states = [name for name in archive.namelist() if name.endswith(".state")]
        if "small: stopped" in told and states:
            break
        seconds *= 1.25 if "small: stopped" in told else 0.75
    assert "small: stopped" in told
    told, last = train_there(project, python, tmp_path / "last", 36000, before=first)
    assert f"small: session 2, goes on from {tmp_path}" in told
    assert "01_eda small: stands" in told
    assert "a training that was stopped goes on at epoch" in told
    assert "small: done" in told
    (history, weights), (same_history, same_weights) = read_session(whole), read_session(last)
    assert same_history == history
    assert weights.keys() == same_weights.keys()
    for name, values in weights.items():
        np.testing.assert_array_equal(same_weights[name], values, err_msg=name)
