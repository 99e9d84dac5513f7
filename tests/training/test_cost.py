"""What a run would take, measured on a small one."""

import pandas as pd
import pytest

from defectmill.config import ConfigError, load_experiment
from defectmill.images import list_images, read_shape
from defectmill.labels import make_image_table, read_labels, write_labels
from defectmill.split import load_split
from defectmill.training import cost as costs
from defectmill.training.cost import Cost, measure_cost, parse_budget, print_cost, print_plan
from fake_competition import EXPERIMENT, write_fake_competition


@pytest.fixture
def make_run(root):
    """An experiment of twelve images in three folds, as `make labels` leaves it."""

    def make(overrides):
        write_fake_competition(root / "input" / "fake", n_train=12, n_test=4)
        (root / "notebooks" / "experiments" / "e.yml").write_text(EXPERIMENT)
        run = load_experiment("e", overrides)
        folder = run.input / "train_images"
        ids = list_images(folder)
        shapes = [(i, *read_shape(folder / i)) for i in ids]
        labels = read_labels(run.input / "train.csv", ids, 2)
        images = make_image_table(labels, pd.DataFrame(shapes, columns=["ImageId", "height", "width"]))
        run.output.mkdir(parents=True)
        write_labels(labels, run.output / "labels.csv", "2019")
        images.assign(fold=[0, 1, 2] * 4, group=range(12)).to_csv(run.output / "images.csv", index=False)
        return run

    return make


def test_cost_counts_steps_and_images_of_the_whole_run(make_run, capsys):
    run = make_run({"labels.n_folds": 4, "training.epochs": 3, "training.steps": 5})
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


def test_cost_counts_every_network(make_run, monkeypatch):
    monkeypatch.setattr(costs, "timeit", lambda *args, **kwargs: 2.0)
    monkeypatch.setattr(costs, "repeat", lambda *args, **kwargs: [4.0, 3.0])
    every = {"labels.n_folds": 3, "labels.validation_fold": "every"}
    steps = {"training.epochs": 2, "training.steps": 5, "training.last_fit": 4}
    run = make_run({**every, **steps, "training.schedule.name": "cosine", "training.keep": "last"})
    cost = measure_cost(run, load_split(run))
    assert (cost.step, cost.predict) == (2.0, 3.0)
    # Three networks and the last; twelve images validate twice; the last network predicts no test image.
    assert (cost.steps, cost.validated, cost.predicted) == (3 * 2 * 5 + 4 * 5, 2 * 12, 12 + 3 * 4)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30min", 1800), ("1h", 3600), ("90s", 90), ("1h30min", 5400), (" 1min5s ", 65)]
)
def test_a_budget_is_hours_minutes_and_seconds(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "0min", "1.5h", "30min1h", "half an hour", "-5min"])
def test_what_is_no_budget_is_refused_with_examples(text):
    with pytest.raises(ConfigError, match=f"BUDGET={text}: not a duration; write 30min, 1h, 90s or 1h30min"):
        parse_budget(text)


@pytest.fixture
def measured(monkeypatch):
    """Experiments whose network was measured: 0.4 s a step, 0.1 s an image."""
    tried = []

    def measure(run, split):
        tried.append(run)
        return Cost(0.4, 0.1, 1, 1, 1, 1)

    monkeypatch.setattr(costs, "measure_cost", measure)
    return tried


def test_a_plan_is_printed_with_reasons_and_written_as_an_experiment(make_run, measured, root, capsys):
    run = make_run({})
    path = print_plan(run, {"seed": 3, "training.schedule.warmup_steps": 7, "model.frozen": 1}, "30min")
    out = capsys.readouterr().out
    assert "\ndata.channels           1                          " in out
    assert "model.frozen            1                                             as SET says" in out
    assert "0.40 s a step, 0.10 s an image predicted; minutes of 30min:" in out
    assert path == root / "output" / "e" / "plan.yml"
    (root / "notebooks" / "experiments" / "e.yml").write_bytes((root / "output/e/plan.yml").read_bytes())
    plan = load_experiment("e")
    assert (plan.seed, plan.dataset, plan.model.frozen, plan.model.encoder) == (3, "fake", 1, "lite0")
    assert (plan.labels.validation_fold, plan.training.last_fit) == ("every", 4)
    assert plan.training.schedule.warmup_steps == 7
    assert plan.data.shape == (128, 128)
    assert "  head: multiclass  # classes exclude one another\n" in (root / "output/e/plan.yml").read_text()


def test_what_is_measured_is_the_draft_s_network_and_larger_ones_where_there_is_time(make_run, measured):
    run = make_run({})
    print_plan(run, {}, "10min")
    assert [one.model.encoder for one in measured] == ["lite0"]
    assert (measured[0].model.name, measured[0].data.shape) == ("encoder_unet", (128, 128))
    assert (measured[0].predict.scales, measured[0].labels.validation_fold) == ((1.0,), 0)
    measured.clear()
    print_plan(run, {}, "10h")
    assert [one.model.encoder for one in measured] == ["lite0", "lite1", "lite2"]
    measured.clear()
    print_plan(run, {"model.encoder": "lite1"}, "10h")
    assert [one.model.encoder for one in measured] == ["lite1"]


def test_twice_the_time_is_told_and_nothing_where_it_would_change_nothing(make_run, measured, capsys):
    run = make_run({})
    print_plan(run, {}, "15min")
    told = capsys.readouterr().out.split("Twice the time would give:")[1]
    assert "  labels.validation_fold  every instead of 0: thresholds are chosen on all images\n" in told
    print_plan(run, {"model.encoder": "lite0"}, "10h")
    assert "Twice the time would give:\n  nothing more\n" in capsys.readouterr().out


def test_a_plan_without_tables_says_what_to_do(root):
    write_fake_competition(root / "input" / "fake", n_train=4, n_test=2)
    (root / "notebooks" / "experiments" / "e.yml").write_text(EXPERIMENT)
    with pytest.raises(ConfigError, match="`make labels EXPERIMENT=e` writes it"):
        print_plan(load_experiment("e"), {}, "30min")
