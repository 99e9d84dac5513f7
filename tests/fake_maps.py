"""A probability map of 3 x 5 pixels, its connected components by hand; networks without training."""

import json
from pathlib import Path

import keras
import numpy as np

from defectmill.config import load_experiment
from defectmill.models import describe_shown
from defectmill.prediction.postprocess import ClassThreshold
from defectmill.prediction.thresholds import write_thresholds
from defectmill.products.manifest import note_predictions
from fake_competition import make_info

# Components above 0.5: 3 pixels (joined by a corner), at most 0.8, and 2 pixels, at most 0.6.
MAP = np.array([[0.8, 0.0, 0.0, 0.6, 0.6], [0.7, 0.0, 0.0, 0.0, 0.0], [0.0, 0.6, 0.0, 0.0, 0.5]])
LARGE = np.array([[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0]], bool)
SMALL = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], bool)


def save_network(experiment: str, model: keras.Model, network: str = "fold_0") -> None:
    """Save a model as a trained network of an experiment."""
    run = load_experiment(experiment)
    folder = run.network_folder(network)
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    note = {"network": network, "shown": describe_shown(run)}
    (folder / "trained.json").write_text(json.dumps(note))


def write_dark_finder(root: Path) -> None:
    """Write the experiment "fake", whose model takes dark pixels for class 1 and nothing for class 2."""
    info = make_info()
    (root / "input" / "fake").mkdir()
    (root / "input" / "fake" / "dataset.json").write_text(info.model_dump_json())
    (root / "notebooks" / "experiments" / "fake.yml").write_text(
        "dataset: fake\ndata: {scale: 1.0}\npredict: {flips: []}\n"
    )
    (root / "output" / "fake").mkdir(parents=True)
    inputs = keras.Input((None, None, 1))
    dark = keras.layers.Rescaling(-1 / 255, offset=1.0)(inputs)
    none = keras.layers.Rescaling(0.0)(inputs)
    save_network("fake", keras.Model(inputs, keras.layers.Concatenate()([dark, none])))
    thresholds = [ClassThreshold(0.5, 0.5, 2), ClassThreshold(0.5, 0.5, 0)]
    write_thresholds(thresholds, info, root / "output" / "fake" / "thresholds.json")
    note_predictions(load_experiment("fake"), {})
