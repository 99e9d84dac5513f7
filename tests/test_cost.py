"""What a run would take, measured on a small one."""

import pytest

from defectmill.config import ConfigError, load_experiment
from defectmill.cost import Cost, measure_cost, print_cost
from defectmill.folds import assign_folds
from defectmill.image_table import make_image_table
from defectmill.images import list_images
from defectmill.labels import read_labels, write_labels
from fake_competition import EXPERIMENT, write_fake_competition


def test_cost_counts_steps_and_pictures_of_the_whole_run(root, capsys):
    write_fake_competition(root / "input" / "fake", n_train=12, n_test=4)
    (root / "notebooks" / "experiments" / "e.yml").write_text(EXPERIMENT)
    run = load_experiment("e", {"labels.n_folds": 4, "training.epochs": 3, "training.steps": 5})
    folder = run.input / "train_images"
    table = read_labels(run.input / "train.csv", list_images(folder), 2)
    images = make_image_table(folder, table).assign(group=range(12))
    images["fold"] = assign_folds(images, 4, seed=0)
    cost = measure_cost(run, table, images)
    n = int((images["fold"] == 0).sum())
    assert (cost.steps, cost.validated, cost.predicted) == (3 * 5, 3 * n, n + 4)
    assert 0 < cost.step < 60
    assert 0 < cost.predict < 60
    assert cost.peak_mb > 100
    run.output.mkdir(parents=True)
    write_labels(table, run.output / "labels.csv", "2019")
    images.to_csv(run.output / "images.csv", index=False)
    print_cost(run)
    assert "a step of 4, 15 steps; " in capsys.readouterr().out


def test_cost_without_tables_says_what_to_do(root):
    write_fake_competition(root / "input" / "fake", n_train=4, n_test=2)
    (root / "notebooks" / "experiments" / "e.yml").write_text(EXPERIMENT)
    with pytest.raises(ConfigError, match="make labels EXPERIMENT=e first"):
        print_cost(load_experiment("e"))


def test_seconds_add_up():
    assert Cost(0.5, 0.25, 100, 12, 8, 0).seconds == pytest.approx(50 + 5)
