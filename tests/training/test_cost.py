"""What a run would take, measured on a small one."""

import pandas as pd
import pytest

from defectmill.config import ConfigError, load_experiment
from defectmill.images import list_images, read_shape
from defectmill.labels import load_split, make_image_table, read_labels, write_labels
from defectmill.training.cost import Cost, measure_cost, print_cost
from fake_competition import EXPERIMENT, write_fake_competition


def test_cost_counts_steps_and_images_of_the_whole_run(root, capsys):
    write_fake_competition(root / "input" / "fake", n_train=12, n_test=4)
    (root / "notebooks" / "experiments" / "e.yml").write_text(EXPERIMENT)
    run = load_experiment("e", {"labels.n_folds": 4, "training.epochs": 3, "training.steps": 5})
    folder = run.input / "train_images"
    ids = list_images(folder)
    shapes = pd.DataFrame([(i, *read_shape(folder / i)) for i in ids], columns=["ImageId", "height", "width"])
    labels = read_labels(run.input / "train.csv", ids, 2)
    run.output.mkdir(parents=True)
    write_labels(labels, run.output / "labels.csv", "2019")
    images = make_image_table(labels, shapes).assign(fold=[0, 1, 2] * 4)
    images.to_csv(run.output / "images.csv", index=False)
    cost = measure_cost(run, load_split(run))
    assert (cost.steps, cost.validated, cost.predicted) == (3 * 5, 3 * 4, 4 + 4)
    assert 0 < cost.step < 60
    assert 0 < cost.predict < 60
    assert cost.peak_mb > 100
    print_cost(run)
    assert "a step of 4, 15 steps; " in capsys.readouterr().out


def test_cost_without_tables_says_what_to_do(root):
    write_fake_competition(root / "input" / "fake", n_train=4, n_test=2)
    (root / "notebooks" / "experiments" / "e.yml").write_text(EXPERIMENT)
    with pytest.raises(ConfigError, match="`make labels EXPERIMENT=e` writes it"):
        print_cost(load_experiment("e"))


def test_seconds_add_up():
    assert Cost(0.5, 0.25, 100, 12, 8, 0).seconds == pytest.approx(50 + 5)
