import re

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from tensorflow.errors import ResourceExhaustedError

from defectmill.config import load_experiment
from defectmill.images import ImageError, write_image
from defectmill.labels import LabelError, make_label_table
from defectmill.prediction.inference import (
    BATCH,
    MapStore,
    PredictionError,
    check_shapes,
    pair_with_truth,
    predict_folder,
    predict_probs,
)


@pytest.fixture
def brightness():
    """A model whose only probability is the image's grey level."""
    inputs = keras.Input((None, None, 1))
    return keras.Model(inputs, layers.Rescaling(1 / 255)(inputs))


class Note:
    """A model that notes what it is shown."""

    def __init__(self, model):
        self.model, self.shapes = model, []

    def predict_on_batch(self, x):
        self.shapes.append(x.shape)
        return self.model.predict_on_batch(x)


def experiment(**overrides):
    small = {"model": {"name": "unet", "widths": [4, 8], "up_widths": [4]}}
    return load_experiment("sample", {"predict.flips": [], **small, **overrides})


def test_probabilities_have_the_images_own_size_and_place(brightness):
    image = np.zeros((37, 53, 1), np.uint8)
    image[30:, 40:] = 255
    resized = {"data.mode": "resize", "data.shape": [16, 32]}
    for settings in ({"data.scale": 1.0}, {"data.scale": 0.5}, resized):
        probs = predict_probs(brightness, image, experiment(**settings))
        assert (probs.shape, probs.dtype) == ((37, 53, 1), np.float32)
        assert probs[36, 52, 0] > 0.9
        assert probs[:20, :20].max() < 0.05


def test_flips_are_turned_back_before_they_are_averaged(brightness):
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 1), np.uint8)
    flips = {"data.scale": 1.0, "predict.flips": ["horizontal", "vertical", "both"]}
    np.testing.assert_allclose(predict_probs(brightness, image, experiment(**flips)), image / 255, atol=1e-6)


def test_flips_are_really_shown():
    inputs = keras.Input((None, None, 1))
    ramp = layers.Lambda(lambda x: x * 0 + keras.ops.arange(4, dtype="float32")[:, None] / 4)
    model = keras.Model(inputs, ramp(inputs))
    image = np.zeros((3, 4, 1), np.uint8)
    plain = predict_probs(model, image, experiment(**{"data.scale": 1.0}))
    averaged = predict_probs(model, image, experiment(**{"data.scale": 1.0, "predict.flips": ["horizontal"]}))
    np.testing.assert_allclose(plain[0, :, 0], [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(averaged[0, :, 0], 0.375)


def test_scales_are_brought_back_and_averaged(brightness):
    image = np.zeros((12, 20, 1), np.uint8)
    image[::2] = 200  # stripes that half the scale averages out
    settings = {"data.scale": 1.0, "predict.scales": [1.0, 0.5]}
    probs = predict_probs(brightness, image, experiment(**settings))
    assert probs.shape == (12, 20, 1)
    stripes = image[..., 0] / 255
    np.testing.assert_allclose(probs[3:9, 5, 0], (stripes[3:9, 5] + 100 / 255) / 2, atol=0.01)


def test_background_of_a_multiclass_head_is_dropped():
    inputs = keras.Input((None, None, 1))
    three = layers.Concatenate()([layers.Rescaling(s)(inputs) for s in (0.0, 1 / 510, 1 / 255)])
    model = keras.Model(inputs, three)
    image = np.full((5, 8, 1), 255, np.uint8)
    settings = {"data.scale": 1.0, "model.head": "multiclass"}
    probs = predict_probs(model, image, experiment(**settings))
    np.testing.assert_allclose(probs[2, 3], [0.5, 1.0])


def test_a_folder_of_different_sizes_is_predicted_in_order(brightness, tmp_path):
    for name, shape in (("b.png", (9, 14)), ("a.png", (20, 11))):
        write_image(tmp_path / name, np.full(shape, 51, np.uint8))
    found = dict(predict_folder([(experiment(), brightness)], tmp_path, ["b.png", "a.png"]))
    assert [(name, probs.shape) for name, probs in found.items()] == [
        ("b.png", (9, 14, 1)),
        ("a.png", (20, 11, 1)),
    ]


def test_an_image_that_cannot_be_read_is_skipped_where_that_is_wanted(brightness, tmp_path):
    for name in ("a.png", "c.png"):
        write_image(tmp_path / name, np.full((9, 14), 51, np.uint8))
    (tmp_path / "b.png").write_bytes(b"no image")
    ids, skipped = ["a.png", "b.png", "c.png"], {}
    maps = predict_folder([(experiment(), brightness)], tmp_path, ids, skipped)
    assert [name for name, _ in maps] == ["a.png", "c.png"]
    assert list(skipped) == ["b.png"]
    assert "not a readable image (8 bytes)" in skipped["b.png"]
    with pytest.raises(ImageError, match="not a readable image"):
        list(predict_folder([(experiment(), brightness)], tmp_path, ids))


@pytest.fixture
def broken():
    """A model that gives nan where the image is white, and inf where it is black."""
    inputs = keras.Input((None, None, 1))
    return keras.Model(inputs, layers.Lambda(lambda x: x / 255 + 0 / (255 - x) + 1 / x)(inputs))


@pytest.mark.parametrize(("grey", "n_broken"), [(255, 2), (0, 3)])
@pytest.mark.parametrize("tiles", [None, {"shape": [16, 24], "overlap": 6}])
def test_probabilities_that_are_nan_or_inf_are_no_clean_image(broken, tmp_path, grey, n_broken, tiles):
    image = np.full((9, 14), 51, np.uint8)
    image[4, 3 : 3 + n_broken] = grey
    write_image(tmp_path / "a.png", np.full((9, 14), 51, np.uint8))
    write_image(tmp_path / "b.png", image)
    run = experiment(**{"data.scale": 1.0, "predict.tiles": tiles}).model_copy(update={"network": "fold_0"})
    said = r"\d+ of \d+ probabilities are nan or inf"
    with pytest.raises(PredictionError, match=said):
        predict_probs(broken, image[:, :, None], run)
    skipped = {}
    maps = predict_folder([(run, broken)], tmp_path, ["a.png", "b.png"], skipped)
    assert next(maps)[0] == "a.png"
    with pytest.raises(PredictionError) as caught:
        next(maps)
    place = (
        rf"{re.escape(str(tmp_path))}/b\.png: {said}, by .*/output/sample/model\.keras: look at the image, "
    )
    assert re.match(place + "or `make train EXPERIMENT=sample`", str(caught.value))
    assert skipped == {}


def test_one_broken_network_of_several_is_named(brightness, broken, tmp_path):
    write_image(tmp_path / "a.png", np.full((9, 14), 255, np.uint8))
    networks = [experiment().model_copy(update={"network": "fold_0"}), experiment()]
    folds = {"labels.validation_fold": "every", "training.keep": "last"}
    networks[1] = experiment(**folds).model_copy(update={"network": "fold_3"})
    pair = [(networks[0], brightness), (networks[1], broken)]
    with pytest.raises(PredictionError, match=r"by .*/output/sample/fold_3/model\.keras"):
        list(predict_folder(pair, tmp_path, ["a.png"]))


TILED = {"data.scale": 1.0, "predict.tiles": {"shape": [16, 24], "overlap": 6}}


def test_tiles_of_a_constant_model_show_no_seam():
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, layers.Rescaling(0.0, offset=0.37)(inputs))
    probs = predict_probs(model, np.zeros((41, 67, 1), np.uint8), experiment(**TILED))
    np.testing.assert_allclose(probs, 0.37, atol=1e-6)


def test_an_image_of_the_tiles_shape_is_predicted_as_a_whole(brightness):
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 1), np.uint8)
    whole = predict_probs(brightness, image, experiment(**{"data.scale": 1.0}))
    tiled = predict_probs(brightness, image, experiment(**TILED))
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


def test_tiles_are_what_the_model_is_shown(brightness):
    note = Note(brightness)
    image = np.random.default_rng(0).integers(0, 256, (41, 67, 1), np.uint8)
    flips = {**TILED, "predict.flips": ["vertical"]}
    probs = predict_probs(note, image, experiment(**flips))
    np.testing.assert_allclose(probs, image / 255, atol=1e-6)
    assert note.shapes == [(BATCH, 16, 24, 1)] * (2 * 4 * 4 // BATCH)


@pytest.mark.parametrize(
    ("tile", "flips"), [(None, []), ([16, 32], []), (None, ["vertical"]), ([16, 18], [])]
)
def test_a_flexunet_is_shown_a_single_image_twice_and_two_once(tile, flips):
    """oneDNN takes minutes for one: see split_batches."""
    inputs = keras.Input((None, None, 3))
    background = layers.Lambda(lambda x: keras.ops.concatenate([x * 0, x / 255], axis=-1)[..., 2:])
    note = Note(keras.Model(inputs, background(inputs)))
    image = np.random.default_rng(0).integers(0, 256, (16, 32, 3), np.uint8)
    settings = {"data.shape": [16, 32], "model.levels": 3, "predict.flips": flips}
    if tile:
        settings["predict.tiles"] = {"shape": tile, "overlap": 4}
    flexunet = load_experiment("crack-flexunet", settings)
    np.testing.assert_allclose(predict_probs(note, image, flexunet), image / 255, atol=1e-6)
    assert [shape[0] for shape in note.shapes] == [2]


def test_stored_maps_come_back_as_often_as_wanted_to_a_255th():
    rng = np.random.default_rng(0)
    maps = {f"{n}.png": rng.uniform(0, 1, (9, 14 + n, 2)).astype(np.float32) for n in range(3)}
    store = MapStore(maps.items())
    for _ in range(2):
        again = dict(store)
        assert list(again) == list(maps)
        for name, probs in again.items():
            assert probs.dtype == np.float32
            np.testing.assert_allclose(probs, maps[name], atol=0.5 / 255 + 1e-6)


def test_a_map_stands_beside_the_masks_of_its_own_image():
    labels = make_label_table([("a", 1, ""), ("a", 2, "1 2"), ("b", 1, "6 1"), ("b", 2, "")])
    maps = [("b", np.zeros((2, 3, 2))), ("a", np.ones((3, 4, 2)))]
    (first, of_b), (second, of_a) = pair_with_truth(maps, labels, 2)
    assert (first.max(), second.min()) == (0, 1)
    assert np.argwhere(of_b).tolist() == [[1, 2, 0]]
    assert np.argwhere(of_a).tolist() == [[0, 0, 1], [1, 0, 1]]


def test_several_networks_are_averaged_each_by_its_own_experiment(brightness, tmp_path):
    write_image(tmp_path / "a.png", np.full((9, 14), 51, np.uint8))
    dark = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Lambda(lambda x: x[..., :1] * 0)])
    pair = [(experiment(), brightness), (experiment(**{"data.channels": 3}), dark)]
    ((_, probs),) = predict_folder(pair, tmp_path, ["a.png"])
    np.testing.assert_allclose(probs, 0.1, atol=1e-6)


@pytest.mark.parametrize("error", [MemoryError(), ResourceExhaustedError(None, None, "OOM")])
def test_an_image_that_is_too_large_for_the_memory_loses_no_other(brightness, tmp_path, error):
    class Small:
        def predict_on_batch(self, x):
            if x.shape[1] > 8:
                raise error
            return brightness.predict_on_batch(x)

    for name, height in (("a.png", 6), ("b.png", 12), ("c.png", 6)):
        write_image(tmp_path / name, np.full((height, 9), 99, np.uint8))
    run, ids, skipped = experiment(**{"data.scale": 1.0}), ["a.png", "b.png", "c.png"], {}
    assert [i for i, _ in predict_folder([(run, Small())], tmp_path, ids, skipped)] == ["a.png", "c.png"]
    assert skipped == {"b.png": "is too large for the memory: cut it, or set predict.tiles"}
    with pytest.raises(MemoryError, match=r"b\.png: set predict\.tiles"):
        list(predict_folder([(run, Small())], tmp_path, ids))


def test_maps_of_images_that_are_not_of_the_size_of_their_labels_are_refused():
    table = pd.DataFrame({"ImageId": ["a", "b"], "height": [3, 4], "width": [5, 2]})
    maps = [("b", np.zeros((4, 2, 1), np.float32)), ("a", np.ones((5, 3, 1), np.float32))]
    assert [image_id for image_id, _ in check_shapes(maps[:1], table)] == ["b"]
    with pytest.raises(LabelError, match="a: is 5 x 3 pixels, and was 3 x 5 when 02 read it"):
        list(check_shapes(maps, table))
