"""Experiments and cards: what is unknown is refused by name."""

import json
import re

import pytest
from pydantic import ValidationError

from defectmill.cards import Card, DefectClass
from defectmill.catalog import CARDS
from defectmill.config import (
    ConfigError,
    list_experiments,
    load_card,
    load_experiment,
    parse_overrides,
    write_stage_knobs,
)
from fake_competition import make_card


@pytest.fixture
def write(root):
    """Write notebooks/experiments/<name>.yml."""

    def write_yml(text: str, name: str = "mine") -> None:
        (root / "notebooks" / "experiments" / f"{name}.yml").write_text(text)

    return write_yml


def test_file_overrides_the_defaults(write):
    write("dataset: sample\ntraining: {epochs: 3}\ndata: {shape: [64, 96]}\n")
    experiment = load_experiment("mine")
    assert (experiment.name, experiment.dataset) == ("mine", "sample")
    assert (experiment.training.epochs, experiment.training.batch_size) == (3, 16)
    assert experiment.data.shape == (64, 96)


@pytest.mark.parametrize(
    "overrides", [{"training.epochs": 5}, {"training": {"epochs": 5}}, {"training.epochs": "5"}]
)
def test_overrides_stand_above_the_file(write, overrides):
    write("dataset: sample\ntraining: {epochs: 3, batch_size: 7}\n")
    training = load_experiment("mine", overrides).training
    assert (training.epochs, training.batch_size) == (5, 7)


def test_number_with_an_exponent_is_a_number(write):
    write("dataset: sample\ntraining: {learning_rate: 1e-4}\n")
    assert load_experiment("mine").training.learning_rate == 1e-4


def test_loading_leaves_the_overrides_alone(write):
    write("dataset: sample\n")
    overrides = {"training": {"epochs": 5}}
    load_experiment("mine", overrides)
    assert overrides == {"training": {"epochs": 5}}


@pytest.mark.parametrize(
    ("text", "offence"),
    [
        ("epoch: 3", "unknown knob 'epoch'"),
        ("training: {epoch: 3}", "unknown knob 'training.epoch'; did you mean 'epochs'?"),
        ("trainin: {}", "unknown knob 'trainin'; did you mean 'training'?"),
        ("training: {epochs: many}", "knob 'training.epochs' = 'many'"),
        ("training: {epochs: 0}", "knob 'training.epochs' = 0"),
        ("training: {schedule: cosin}", "'cosine'"),
        ("training: {loss: {dise: 1}}", "'dise'"),
        ("data: {shape: [64]}", "data.shape"),
        ("data: {shape: [64, 8]}", "knob 'data.shape.1' = 8"),
        ("data: {zoom: [2, 0.5]}", "zoom (2.0, 0.5) is no range"),
        ("labels: {n_folds: 3, held_out: 3}", "held_out 3 is no fold of 3"),
        ("name: other", "knob 'name' = 'other'"),
        ("training: 5", "knob 'training' = 5"),
    ],
)
def test_wrong_knob_is_named_with_file_and_value(write, text, offence):
    write(f"dataset: sample\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_experiment("mine")
    assert "mine.yml" in str(caught.value)
    assert offence in str(caught.value)


def test_unknown_override_is_named_with_the_nearest(write):
    write("dataset: sample\n")
    with pytest.raises(ConfigError, match=r"'training\.epoch'; did you mean 'epochs'"):
        load_experiment("mine", {"training.epoch": 3})


def test_override_below_a_plain_knob_is_refused(write):
    write("dataset: sample\n")
    with pytest.raises(ConfigError, match=r"'seed\.x': 'seed' has no knobs inside"):
        load_experiment("mine", {"seed": 1, "seed.x": 3})


def test_all_wrong_knobs_are_named_at_once(write):
    write("dataset: sample\nepoch: 1\ntraining: {epochs: 0}\n")
    with pytest.raises(ConfigError, match=r"'training\.epochs' = 0.*unknown knob 'epoch'"):
        load_experiment("mine")


@pytest.mark.parametrize(("text", "offence"), [("a: [", "not YAML"), ("- a", "holds list")])
def test_file_that_holds_no_knobs_is_named(write, text, offence):
    write(text)
    with pytest.raises(ConfigError, match=rf"mine\.yml: {offence}"):
        load_experiment("mine")


def test_empty_file_lacks_its_dataset(write):
    write("")
    with pytest.raises(ConfigError, match="'dataset'"):
        load_experiment("mine")


def test_unknown_experiment_brings_the_nearest(write):
    write("dataset: sample\n", "magnetic-tile")
    write("dataset: sample\n", "sample")
    assert list_experiments() == ["magnetic-tile", "sample"]
    with pytest.raises(ConfigError, match="'magnetic'; did you mean 'magnetic-tile'"):
        load_experiment("magnetic")


@pytest.mark.parametrize("name", ["../../secret", "", "mine.yml", "/etc/passwd"])
def test_experiment_is_a_name_and_no_path(write, root, name):
    write("dataset: sample\n")
    (root / "secret.yml").write_text("dataset: sample\n")
    with pytest.raises(ConfigError, match=re.escape(f"no experiment {name!r}")):
        load_experiment(name)


def test_unknown_dataset_is_named(write):
    write("dataset: smaple\n")
    with pytest.raises(ConfigError, match=r"'smaple'; did you mean 'sample'.*dataset\.json"):
        load_experiment("mine")


def test_own_dataset_brings_its_card(write, root):
    card = make_card("mine", n_classes=3)
    (root / "input" / "mine").mkdir()
    (root / "input" / "mine" / "dataset.json").write_text(json.dumps(card.model_dump()))
    write("dataset: mine\n")
    assert load_experiment("mine").card == card


def test_a_card_of_the_project_stays_true_where_its_folder_is_older(write, root):
    old = CARDS["magnetic-tile"].model_copy(
        update={"near_duplicate": 0.1, "notes": ("seen",), "partial": True}
    )
    (root / "input" / "magnetic-tile").mkdir()
    path = root / "input" / "magnetic-tile" / "dataset.json"
    path.write_text(json.dumps(old.model_dump()))
    write("dataset: magnetic-tile\n")
    card = load_experiment("mine").card
    assert card.near_duplicate == CARDS["magnetic-tile"].near_duplicate
    assert (card.notes, card.partial) == (("seen",), True)


@pytest.mark.parametrize("names", [("dent", "dent"), ("all classes", "b"), ("a", "background")])
def test_class_names_tell_classes_apart(names):
    kinds = [{"id": n, "name": name, "colour": (n, 0, 0)} for n, name in enumerate(names, 1)]
    with pytest.raises(ValueError, match="class names must differ"):
        Card(name="x", title="x", classes=kinds)


@pytest.mark.parametrize("pattern", [r"\d+", r"(a)(b)", "("])
def test_a_group_pattern_has_one_bracket(pattern):
    kinds = [{"id": 1, "name": "a", "colour": (1, 0, 0)}]
    with pytest.raises(ValueError, match="group_pattern"):
        Card(name="x", title="x", classes=kinds, group_pattern=pattern)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"name": "x", "classes": [], "title": "t"}'])
def test_file_that_is_no_card_is_named(root, text):
    (root / "input" / "mine").mkdir()
    (root / "input" / "mine" / "dataset.json").write_text(text)
    with pytest.raises(ConfigError, match=r"mine/dataset\.json: not a dataset card"):
        load_card("mine")


def test_paths_carry_the_names(write, root):
    write("dataset: sample\n")
    experiment = load_experiment("mine")
    assert experiment.input == root / "input" / "sample"
    assert experiment.output == root / "output" / "mine"
    assert experiment.submission == root / "submissions" / "mine.csv"


def test_experiment_is_frozen(write):
    write("dataset: sample\n")
    with pytest.raises(ValidationError, match="frozen"):
        load_experiment("mine").seed = 3


def test_set_of_make_reads_as_knobs():
    assert parse_overrides("training.epochs=3  data.shape=[64,96] model.pretrained=false") == {
        "training.epochs": 3,
        "data.shape": [64, 96],
        "model.pretrained": False,
    }
    assert parse_overrides("") == {}


@pytest.mark.parametrize("word", ["epochs", "=3", "epochs=", "data.shape=[64,"])
def test_set_without_knob_or_value_is_refused(word):
    with pytest.raises(ConfigError, match=re.escape(repr(word))):
        parse_overrides(f"seed=1 {word}")


def test_new_threshold_grid_leaves_the_training_knobs_untouched(write, tmp_path):
    write("dataset: sample\n")
    write_stage_knobs(load_experiment("mine"), tmp_path / "knobs")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "knobs").iterdir()}
    assert before.keys() == {"labels.json", "train.json", "predict.json"}
    write_stage_knobs(load_experiment("mine", {"predict.thresholds": [0.5]}), tmp_path / "knobs")
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "knobs").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"predict.json"}


@pytest.mark.parametrize(
    ("knob", "value", "stage"),
    [
        ("labels.n_folds", 3, {"labels.json"}),
        ("training.epochs", 3, {"train.json"}),
        ("data.scale", 0.5, {"train.json"}),
        ("seed", 4, {"labels.json", "train.json"}),
        ("about", "words", set()),
    ],
)
def test_knob_reaches_its_stage_alone(write, tmp_path, knob, value, stage):
    write("dataset: sample\n")
    texts = []
    for overrides in ({}, {knob: value}):
        write_stage_knobs(load_experiment("mine", overrides), tmp_path / "knobs")
        texts.append({p.name: p.read_text() for p in (tmp_path / "knobs").iterdir()})
    assert {name for name in texts[0] if texts[0][name] != texts[1][name]} == stage


def kind(number: int) -> DefectClass:
    return DefectClass(id=number, name=f"k{number}", colour=(1, 2, 3))


@pytest.mark.parametrize("ids", [[], [0, 1], [1, 3], [2, 1], [1, 1]])
def test_class_ids_run_from_one(ids):
    with pytest.raises(ValidationError, match=re.escape(f"without a gap, not {ids}")):
        Card(name="x", title="X", classes=tuple(kind(i) for i in ids))


def test_names_and_colours_stand_in_the_order_of_the_channels():
    card = make_card(n_classes=3)
    assert card.class_names == ["bar 1", "bar 2", "bar 3"]
    assert card.colours[1] == (60, 200, 120)


def test_card_refuses_what_it_does_not_know():
    with pytest.raises(ValidationError, match="licens"):
        Card(name="x", title="X", classes=(kind(1),), licens="MIT")


@pytest.mark.parametrize("name", sorted(CARDS))
def test_card_round_trips_through_json(name):
    assert Card.model_validate_json(json.dumps(CARDS[name].model_dump())) == CARDS[name]
