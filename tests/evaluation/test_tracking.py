"""Kept runs go to MLflow, here a stand-in that notes what it is told."""

import json
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from defectmill.evaluation.tracking import export_runs
from defectmill.files import DefectmillError


class Store(SimpleNamespace):
    """What of MLflow is used."""

    def __init__(self):
        super().__init__(runs=[], uri="", experiment="")

    def set_tracking_uri(self, uri):
        self.uri = uri

    def set_experiment(self, name):
        self.experiment = name

    def search_runs(self, experiment_names, output_format):
        assert (experiment_names, output_format) == ([self.experiment], "list")
        return [SimpleNamespace(info=SimpleNamespace(run_name=run["name"])) for run in self.runs]

    @contextmanager
    def start_run(self, run_name):
        self.runs.append({"name": run_name, "metrics": [], "files": []})
        yield

    def log_params(self, params):
        self.runs[-1]["params"] = params

    def log_metrics(self, metrics, step=0):
        self.runs[-1]["metrics"].append((step, metrics))

    def log_artifact(self, path):
        self.runs[-1]["files"].append(path)


@pytest.fixture
def store(monkeypatch):
    store = Store()
    monkeypatch.setitem(sys.modules, "mlflow", store)
    return store


def make_run(folder):
    folder.mkdir()
    (folder / "scores.json").write_text(json.dumps({"score": 0.9, "floor": 0.8, "micro_dice": None}))
    (folder / "settings.json").write_text(json.dumps({"seed": 3, "data": {"shape": [64, 96]}}))
    (folder / "history.csv").write_text("epoch,loss,val_loss\n0,0.5,NA\n1,0.25,0.75\n")
    (folder / "report.html").write_text("<p>")
    return folder


def test_a_kept_run_is_written_with_settings_scores_history_and_files(store, tmp_path):
    folder = make_run(tmp_path / "1-first")
    assert export_runs("mine", [folder], "sqlite:///a.db") == 1
    assert (store.uri, store.experiment) == ("sqlite:///a.db", "mine")
    (run,) = store.runs
    assert run["name"] == "1-first"
    assert run["params"] == {"seed": "3", "data.shape": "[64, 96]"}
    assert run["metrics"] == [
        (0, {"score": 0.9, "floor": 0.8}),
        (1, {"loss": 0.5}),
        (2, {"loss": 0.25, "val_loss": 0.75}),
    ]
    assert run["files"] == [str(folder / name) for name in ("report.html", "settings.json")]


def test_runs_that_are_there_are_not_written_twice(store, tmp_path):
    folders = [make_run(tmp_path / name) for name in ("1-first", "2-other")]
    assert export_runs("mine", folders[:1], "sqlite:///a.db") == 1
    assert export_runs("mine", folders, "sqlite:///a.db") == 1
    assert [run["name"] for run in store.runs] == ["1-first", "2-other"]


@pytest.mark.parametrize("uri", ["output/mlruns", "file:///output/mlruns"])
def test_a_folder_is_no_store(store, tmp_path, uri):
    with pytest.raises(DefectmillError, match=r"MLflow wants a database or a server: sqlite:///"):
        export_runs("mine", [], uri)


def test_a_missing_package_is_named_with_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(DefectmillError, match=r"no package mlflow: python -m pip install mlflow"):
        export_runs("mine", [], "sqlite:///a.db")
