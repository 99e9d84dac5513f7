"""A probability map of 3 x 5 pixels, its connected components by hand; networks without training."""

import json

import keras
import numpy as np

from defectmill.config import load_experiment
from defectmill.models import describe_shown

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
