"""Strips and film of what the network says after each epoch."""

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from defectmill.config import load_experiment
from defectmill.image_table import make_image_table
from defectmill.images import list_images, read_shape
from defectmill.labels import read_labels
from defectmill.pictures import Pictures
from defectmill.previews import Previews, choose_pictures, draw_strip
from fake_competition import make_card, write_fake_competition


@pytest.fixture
def held_out(root):
    """Experiment with three previews, and the Sequence of its held-out pictures."""
    write_fake_competition(root / "input" / "fake", n_train=9)
    (root / "notebooks" / "experiments" / "e.yml").write_text("dataset: fake\n")
    experiment = load_experiment("e", {"training.previews": 3, "data.scale": 1.0})
    folder = experiment.input / "train_images"
    labels = read_labels(experiment.input / "train.csv", list_images(folder), 2)
    images = make_image_table(folder, labels)
    return experiment, Pictures.of(experiment, labels, images)


def run_epochs(callback, n: int) -> None:
    inputs = keras.Input((None, None, 1))
    darkness = layers.Rescaling(-1 / 255, offset=1.0)(inputs)
    callback.set_model(keras.Model(inputs, layers.Concatenate()([darkness, darkness])))
    callback.on_train_begin()
    for epoch in range(n):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch)
    callback.on_train_end()


def test_every_epoch_has_its_strip_and_the_film_all_of_them(held_out):
    experiment, sequence = held_out
    run_epochs(Previews(experiment, sequence, share=1e9), 3)
    folder = experiment.output / "previews"
    assert [p.name for p in sorted(folder.iterdir())] == [f"epoch_00{n}.png" for n in (1, 2, 3)]
    with Image.open(experiment.output / "previews.gif") as film:
        assert film.size[::-1] == read_shape(folder / "epoch_001.png")
    assert not (experiment.output / "previews.part").exists()


def test_strips_are_thinned_out_and_it_says_so(held_out, capsys):
    experiment, sequence = held_out
    run_epochs(Previews(experiment, sequence, share=1e-12), 5)
    assert len(list((experiment.output / "previews").iterdir())) == 1
    assert "the next one after" in capsys.readouterr().out


def test_strips_of_an_older_run_go(held_out):
    experiment, sequence = held_out
    run_epochs(Previews(experiment, sequence, share=1e9), 4)
    run_epochs(Previews(experiment, sequence, share=1e9), 2)
    assert len(list((experiment.output / "previews").iterdir())) == 2


def test_classes_are_shown_in_turn_then_clean_pictures():
    runs = {"a": {1: "1 1"}, "b": {1: "1 1"}, "c": {2: "1 1"}, "d": {}}
    assert choose_pictures(runs, 2) == ["a", "c"]
    assert choose_pictures(runs, 6) == ["a", "c", "b", "d"]


def test_strip_shows_truth_above_prediction():
    picture = np.full((20, 40, 1), 128, np.uint8)
    truth, answer = np.zeros((2, 20, 40, 2), np.uint8)
    truth[:, :20, 0], answer[:, 20:, 1] = 1, 1
    card = make_card(n_classes=2)
    strip = draw_strip([picture] * 3, [truth] * 3, [answer] * 3, card, "epoch 1")
    half = strip.shape[0] // 2
    coloured = strip.max(axis=2).astype(int) - strip.min(axis=2) > 30
    upper, lower = (
        np.argwhere(part[25:]).min(axis=0)[1] for part in (coloured[:half], coloured[half:])
    )
    assert upper < 5
    assert 110 < lower < 130
    named = {tuple(int(v) for v in pixel) for pixel in strip[:18].reshape(-1, 3)}
    assert named >= {one.colour for one in card.classes}
