"""U-Nets on backbones of keras.applications, all built without a download."""

import re

import keras
import numpy as np
import pytest

from defectmill import files
from defectmill.config import ConfigError
from defectmill.models.backbone_unet import build_backbone_unet
from defectmill.settings import BackboneUnetSettings


def build(n_classes=2, channels=3, **settings):
    known = BackboneUnetSettings(backbone="MobileNet", up_widths=(8, 8, 8, 8))
    return build_backbone_unet(known.model_copy(update=settings), n_classes, channels)


def features_of(model, layer):
    return keras.Model(model.inputs, model.get_layer(layer).output)


# Channels that the decoder's convolutions get at strides 16, 8, 4 and 2: from below, and of the skip.
GIVEN = {
    "MobileNetV2": [1280 + 576, 7 + 192, 7 + 144, 7 + 96],
    "EfficientNetV2B0": [1280 + 672, 7 + 192, 7 + 32, 7 + 16],
    "ConvNeXtTiny": [768 + 384, 7 + 192, 7 + 96, 7],  # has none at stride 2
}


@pytest.mark.parametrize("backbone", GIVEN)
def test_skips_are_the_last_features_at_each_stride(backbone):
    model = build(backbone=backbone, up_widths=(7, 7, 7, 7))
    decoder = [w for w in model.layers if type(w) is keras.layers.Conv2D and w.filters == 7]
    assert [w.kernel.shape[2] for w in decoder] == GIVEN[backbone]


def test_the_output_has_the_size_of_the_input_after_saving_too(tmp_path):
    model = build(channels=1, head="multiclass", summed_logits=True, image_head=True)
    image = np.random.default_rng(0).uniform(0, 255, (1, 37, 70, 1)).astype(np.float32)
    probs = model.predict_on_batch(image)
    assert probs.shape == (1, 37, 70, 3)
    np.testing.assert_allclose(probs.sum(axis=-1), 1, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict_on_batch(image), probs)


@pytest.mark.parametrize("ending", ["weights.h5", "h5", "keras"])
def test_weights_of_a_file_and_the_backbone_s_own_preprocessing_are_in_place(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(files, "ROOT", tmp_path)
    backbone = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(64, 96, 3))
    path = tmp_path / f"own.{ending}"
    backbone.save_weights(path) if ending == "weights.h5" else backbone.save(path)
    grey = np.random.default_rng(1).uniform(0, 255, (1, 64, 96, 1)).astype(np.float32)
    wanted = backbone.predict_on_batch(np.repeat(grey, 3, axis=-1) / 127.5 - 1)
    model = features_of(build(channels=1, weights=path.name), "conv_pw_13_relu")
    np.testing.assert_allclose(model.predict_on_batch(grey), wanted, rtol=1e-3, atol=1e-3 * wanted.max())
    assert wanted.max() > 0


def test_a_backbone_that_prepares_the_image_itself_gets_it_as_it_is():
    image = np.full((1, 32, 64, 3), 255, np.float32)
    model = build(backbone="EfficientNetV2B0")
    (normalize,) = [w for w in model.layers if isinstance(w, keras.layers.Normalization)]
    model = features_of(model, normalize.name)
    shown = model.predict_on_batch(image)[0, 0, 0]
    np.testing.assert_allclose(
        shown, (1 - np.array([0.485, 0.456, 0.406])) / [0.229, 0.224, 0.225], atol=1e-5
    )


@pytest.mark.parametrize("frozen", [False, True])
def test_a_frozen_backbone_does_not_train_and_the_decoder_does(frozen):
    model = build(frozen=frozen)
    trained = {v.path.split("/")[0] for v in model.trainable_variables}
    assert ("conv1" in trained) is not frozen
    assert "logits" in trained


@pytest.mark.parametrize(
    ("settings", "offence"),
    [
        ({"weights": "nowhere/own.weights.h5"}, "nowhere/own.weights.h5 is missing"),
        ({"backbone": "InceptionV3"}, "model.backbone=InceptionV3 has no features at stride 32"),
        ({"backbone": "NASNetMobile"}, "model.backbone=NASNetMobile has no features at stride 32"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, offence):
    with pytest.raises(ConfigError, match=re.escape(offence)):
        build(**settings)


@pytest.mark.parametrize("name", ["broken.h5", "broken.keras", "broken.txt", "other.weights.h5"])
def test_a_file_that_does_not_fit_is_named(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"no weights")
    if name.startswith("other"):
        inputs = keras.Input((4, 6, 3))
        keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs)).save_weights(path)
    wanted = re.escape(f"{path}: not the weights of keras.applications.MobileNet(include_top=False)")
    with pytest.raises(ConfigError, match=wanted):
        build(weights=str(path))
