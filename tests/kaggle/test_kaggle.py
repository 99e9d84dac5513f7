"""What Kaggle is sent runs there: with Kaggle's versions, without a network, from what is attached.

Slow: a tiny experiment is trained. Where there is no such environment (make test-kaggle makes it) it skips.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

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
    """A project with the experiment trained, predicted and packed."""
    home = tmp_path_factory.mktemp("project")
    (home / "notebooks" / "experiments").mkdir(parents=True)
    (home / "notebooks" / "experiments" / "tiny.yml").write_text(EXPERIMENT)
    environment = {**os.environ, "DEFECTMILL_HOME": str(home), "PYTHONPATH": str(ROOT / "src")}
    for words in (
        "input sample",
        "settings tiny",
        "notebook 02_labels tiny",
        "train tiny",
        "notebook 04_predict tiny",
        "kernel tiny --owner=jane --competition=steel",
    ):
        command = [sys.executable, "-m", "defectmill", *words.split()]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return home


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


def attach(project, folder: Path, place: str) -> Path:
    """Attach the dataset of the kernel, and the competition's files as Kaggle has them, in `place`."""
    shutil.copytree(project / "output" / "tiny" / "kernel" / "dataset", folder / "defectmill-tiny-model")
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
def test_the_masks_are_those_of_here_to_the_last_pixel(project, python, tmp_path, place):
    attached = attach(project, tmp_path / "input", place)
    notebook = project / "output" / "tiny" / "kernel" / "notebook" / "predict.ipynb"
    told = run_there(python, notebook, attached, tmp_path / "working", working=tmp_path / "working")
    assert "80 images with 2 networks, 2 scales, 2 flips" in told
    here, there = project / "submissions" / "tiny.csv", tmp_path / "working" / "submission.csv"
    assert read_labels(here)["hasMask"].sum() > 5
    assert there.read_bytes() == here.read_bytes()


def test_where_there_is_no_time_the_submission_is_whole_nevertheless(project, python, tmp_path):
    attached = attach(project, tmp_path / "input", "steel")
    notebook = project / "output" / "tiny" / "kernel" / "notebook" / "predict.ipynb"
    working = tmp_path / "working"
    told = run_there(python, notebook, attached, working, working=working, seconds=0.01)
    assert "80 images without a prediction: the time was over" in told
    table = pd.read_csv(working / "submission.csv", keep_default_na=False)
    sample = pd.read_csv(project / "input" / "sample" / "sample_submission.csv")
    assert table.iloc[:, 0].tolist() == sample.iloc[:, 0].tolist()
    assert (table["EncodedPixels"] == "").all()


def test_a_notebook_opened_alone_installs_the_wheel_and_reads_what_is_attached(project, python, tmp_path):
    attached = attach(project, tmp_path / "input", "datasets/jane/sample")
    working = tmp_path / "working"
    run_there(python, ROOT / "notebooks" / "01_eda.ipynb", attached, working)
    assert (working / "output" / "sample" / "eda.csv").is_file()
    executed = json.loads((working / "done.ipynb").read_text())
    assert [c for c in executed["cells"] if c.get("metadata", {}).get("papermill", {}).get("exception")] == []
