import json

import pytest

from defectmill.config import ConfigError, load_experiment
from defectmill.prediction.ensemble import read_members, write_ensemble
from fake_competition import make_info

FILE = "dataset: fake\nlabels: {n_folds: 3, validation_fold: every}\n"
FILE += "training: {keep: last, schedule: {name: cosine}}\n"


@pytest.fixture
def experiments(root):
    (root / "input" / "fake").mkdir(parents=True)
    (root / "input" / "fake" / "dataset.json").write_text(json.dumps(make_info().model_dump()))
    folder = root / "notebooks" / "experiments"
    for name, more in (("a", ""), ("b", "data: {scale: 0.5}\n"), ("seeded", "")):
        (folder / f"{name}.yml").write_text(FILE + more)
    (folder / "seeded.yml").write_text(FILE.replace("n_folds: 3", "n_folds: 3, seed: 4"))
    (folder / "road.yml").write_text(FILE.replace("fake", "crack"))
    return folder


def test_an_ensemble_is_an_experiment_with_the_folds_of_its_members(experiments):
    path = write_ensemble(["a", "b"], "both")
    assert path == experiments / "both.yml"
    run = load_experiment("both")
    assert [part.name for part in run.load_parts()] == ["a", "b"]
    assert [part.data.scale for part in run.load_parts()] == [1.0, 0.5]
    assert run.fold_networks == ("fold_0", "fold_1", "fold_2")
    assert write_ensemble(["a", "b"], "both") == path


@pytest.mark.parametrize(
    ("members", "name", "message"),
    [
        (["a"], "both", "needs EXPERIMENTS="),
        (["a", "a"], "both", "needs EXPERIMENTS="),
        (["a", "b"], "", "needs EXPERIMENTS="),
        (["a", "seeded"], "both", "seeded and a differ in dataset or labels"),
        (["a", "road"], "both", "road and a differ"),
        (["a", "b"], "seeded", "seeded.yml is an experiment of its own"),
        (["a", "nobody"], "both", "no experiment 'nobody'"),
    ],
)
def test_members_that_do_not_fit_are_refused_and_nothing_is_written(experiments, members, name, message):
    before = {path: path.read_text() for path in experiments.iterdir()}
    with pytest.raises(ConfigError, match=message):
        write_ensemble(members, name)
    assert {path: path.read_text() for path in experiments.iterdir()} == before


def test_an_ensemble_of_ensembles_is_refused(experiments):
    write_ensemble(["a", "b"], "both")
    with pytest.raises(ConfigError, match="both is an ensemble itself: name its members a, b"):
        write_ensemble(["a", "both"], "more")


def test_members_tell_what_they_were_trained_on_and_must_have_the_same_folds(experiments):
    write_ensemble(["a", "b"], "both")
    run = load_experiment("both")
    for n, part in enumerate([run, *run.load_parts()]):
        part.output.mkdir(parents=True)
        (part.output / "images.csv").write_text("ImageId,fold\nx.png,0\n")
        (part.output / "networks.json").write_text(json.dumps({"fold_0": {"images": n}}))
    notes = read_members(run)
    assert {name: note["images"] for name, note in notes.items()} == {"a fold_0": 1, "b fold_0": 2}
    assert notes["b fold_0"]["predict"]["scales"] == [1.0]  # what it shows counts, too
    assert read_members(run.load_parts()[0]) == {}
    (run.load_parts()[1].output / "images.csv").write_text("ImageId,fold\nx.png,1\n")
    with pytest.raises(
        ConfigError, match=r"both/images\.csv and .*b/images\.csv differ: `make labels EXPERIMENT=b`"
    ):
        read_members(run)
    (run.load_parts()[1].output / "networks.json").unlink()
    with pytest.raises(ConfigError, match=r"networks\.json is missing: `make train EXPERIMENT=b`"):
        read_members(run)
