"""Kept runs in MLflow, for those who compare theirs there; an optional package."""

import json
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import pandas as pd

from defectmill.files import DefectmillError

FILES = ("report.html", "settings.json", "thresholds.json", "submission.csv", "curves.png")


def export_runs(experiment: str, folders: Sequence[Path], uri: str) -> int:
    """Write kept runs into an MLflow store, those that it has already left out; give how many were written.

    A run has its settings as parameters, its scores as metrics, its history by epoch, and FILES.

    Args:
        folders: of output/<experiment>/runs.
        uri: of a database or server, such as sqlite:///output/mlflow.db.
    Raises:
        DefectmillError: no package mlflow, or a folder as store, which MLflow has given up (3.13).
    """
    if "://" not in uri or uri.startswith("file:"):
        raise DefectmillError(
            f"MLFLOW={uri}: MLflow wants a database or a server: sqlite:///output/mlflow.db"
        )
    try:
        mlflow = import_module("mlflow")
    except ModuleNotFoundError as error:
        way_out = "python -m pip install mlflow, or the extra mlflow of this project"
        raise DefectmillError(f"MLFLOW={uri}: no package mlflow: {way_out}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies
        mlflow.set_tracking_uri(uri)
        mlflow.set_experiment(experiment)
        known = mlflow.search_runs(experiment_names=[experiment], output_format="list")
        names = {run.info.run_name for run in known}
        new = [folder for folder in folders if folder.name not in names]
        for folder in new:
            _export(mlflow, folder)
    return len(new)


def _export(mlflow, folder: Path) -> None:
    scores, settings = (json.loads((folder / f"{name}.json").read_text()) for name in ("scores", "settings"))
    with mlflow.start_run(run_name=folder.name):
        mlflow.log_params({key: str(value)[:500] for key, value in _flatten(settings).items()})
        mlflow.log_metrics(
            {name: scores[name] for name in ("score", "floor", "micro_dice") if scores.get(name)}
        )
        for epoch, row in enumerate(pd.read_csv(folder / "history.csv").to_dict("records"), 1):
            values = {
                str(name): float(value) for name, value in row.items() if name != "epoch" and pd.notna(value)
            }
            mlflow.log_metrics(values, step=epoch)
        for name in FILES:
            if (folder / name).is_file():
                mlflow.log_artifact(str(folder / name))


def _flatten(settings: dict, above: str = "") -> dict:
    flat: dict = {}
    for key, value in settings.items():
        flat |= _flatten(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return flat
