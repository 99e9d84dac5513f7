"""An experiment with an untrained network, and the tables and pictures that an export reads."""

import json

import pandas as pd
import pytest

from defectmill.config import load_experiment
from defectmill.images import list_images, read_shape
from defectmill.labels import make_image_table, read_labels, write_labels
from defectmill.prediction.postprocess import ClassThreshold
from defectmill.prediction.thresholds import write_thresholds
from defectmill.products.manifest import note_predictions
from fake_competition import EXPERIMENT, write_fake_competition
from fake_maps import save_network


@pytest.fixture
def make_run(root):
    """Write the experiment "e" on twelve drawn pictures in two folds; its settings may be others."""

    def make(overrides: dict):
        from defectmill.models import build_model

        write_fake_competition(root / "input" / "fake", n_train=12, n_test=4)
        (root / "notebooks" / "experiments" / "e.yml").write_text(EXPERIMENT)
        run = load_experiment("e", overrides)
        ids = list_images(run.input / "train_images")
        shapes = [(i, *read_shape(run.input / "train_images" / i)) for i in ids]
        labels = read_labels(run.input / "train.csv", ids, 2)
        images = make_image_table(labels, pd.DataFrame(shapes, columns=["ImageId", "height", "width"]))
        run.output.mkdir(parents=True)
        write_labels(labels, run.output / "labels.csv", "2019")
        images.assign(fold=[0, 1] * 6, group=range(12)).to_csv(run.output / "images.csv", index=False)
        save_network("e", build_model(run))
        note = {"network": "fold_0", "shown": json.loads((run.output / "trained.json").read_text())["shown"]}
        shown = run.data.model_dump(mode="json")
        note["shown"] = {key: shown[key] for key in note["shown"] if key in shown}
        (run.output / "trained.json").write_text(json.dumps(note))
        chosen = [ClassThreshold(0.49, 0.5, 2), ClassThreshold(0.5, 0.5, 3, fill_holes=True)]
        write_thresholds(chosen, run.info, run.output / "thresholds.json")
        note_predictions(run, overrides)
        return run

    return make
