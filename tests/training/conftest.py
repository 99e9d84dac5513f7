"""Fixtures of the tests of training."""

import numpy as np
import pandas as pd
import pytest

from defectmill import files
from defectmill.config import load_experiment
from defectmill.images import list_images, read_shape
from defectmill.labels import make_image_table, read_labels, write_labels
from defectmill.split import Split
from defectmill.training.sequences import make_sequences
from fake_competition import EXPERIMENT, write_fake_competition


@pytest.fixture
def load(root, monkeypatch):
    """Load an experiment on a fake competition whose last three images are for validation."""
    monkeypatch.delenv("DEFECTMILL_TERMINAL", raising=False)
    monkeypatch.setattr(files, "is_unattended", lambda: False)
    write_fake_competition(root / "input" / "fake", n_train=9)
    (root / "notebooks" / "experiments" / "e.yml").write_text(EXPERIMENT)
    (root / "notebooks" / "03_train.ipynb").write_text("{}")
    folder = root / "input" / "fake" / "train_images"
    ids = list_images(folder)
    shapes = pd.DataFrame([(i, *read_shape(folder / i)) for i in ids], columns=["ImageId", "height", "width"])
    labels = read_labels(folder.parent / "train.csv", ids, 2)
    images = make_image_table(labels, shapes)
    output = root / "output" / "e"
    output.mkdir(parents=True)
    images.to_csv(output / "images.csv", index=False)
    write_labels(labels, output / "labels.csv", "2019")
    np.savez(output / "scans.npz", **{"train ImageId": ids, "train digest": ids})

    def make(**settings):
        run = load_experiment("e", settings)
        return run, *make_sequences(
            run, Split(labels, images, images[:6], images[6:], run.input / "train_images")
        )

    return make
