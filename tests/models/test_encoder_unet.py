"""The variants of the encoder, and what the decoder can do beside a plain U-Net's."""

from collections import Counter

import cv2
import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from defectmill.models import encoder_unet
from defectmill.models.encoder_unet import build_encoder_unet
from defectmill.models.layers import ImageGate, attach_decoder, attach_head
from defectmill.models.pretrained import encoder_weights
from defectmill.settings import EncoderUnetSettings

LITES = ("lite0", "lite1", "lite2")
HEAD = ("_conv_head", "_bn1", "_fc")  # of the classifier, in the weights file
PALACE = 698  # of ImageNet's 1000 classes


def build(n_classes=1, channels=3, **settings):
    settings = {"up_widths": (8, 8, 8, 8, 4), **settings}
    return build_encoder_unet(EncoderUnetSettings(**settings), n_classes, channels)


def features_of(model, layer):
    return keras.Model(model.inputs, model.get_layer(layer).output)


@pytest.mark.parametrize("encoder", LITES)
def test_with_its_classifier_every_encoder_sees_a_palace(encoder):
    whole = load_sample_image("china.jpg")[:, 106:533]  # the Summer Palace, (427, 427) of it
    image = cv2.resize(whole, (224, 192), interpolation=cv2.INTER_AREA)[None].astype(np.float32)
    features = features_of(build(encoder=encoder), "stage6_0_project_norm").predict_on_batch(image)[0]
    weights = encoder_weights(encoder)
    x = features @ weights["_conv_head.weight"][:, :, 0, 0].T
    gamma, beta, mean, variance = (
        weights[f"_bn1.{name}"] for name in ("weight", "bias", "running_mean", "running_var")
    )
    x = np.clip((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0, 6).mean(axis=(0, 1))
    assert np.argmax(weights["_fc.weight"] @ x + weights["_fc.bias"]) == PALACE


@pytest.mark.parametrize("encoder", LITES)
def test_every_array_of_the_file_is_used_once_but_the_classifiers(encoder, monkeypatch):
    class Counted(dict):
        def __getitem__(self, key):
            used[key] += 1
            return super().__getitem__(key)

    used, weights = Counter(), encoder_weights(encoder)
    monkeypatch.setattr(encoder_unet, "encoder_weights", {encoder: Counted(weights)}.__getitem__)
    model = build(encoder=encoder)
    wanted = {key for key in weights if not key.startswith(HEAD) and not key.endswith("batches_tracked")}
    assert used == dict.fromkeys(wanted, 1)
    loaded = [v for v in model.variables if v.path.startswith(encoder_unet.PARTS)]
    assert len(loaded) == len(wanted)
    assert sum(np.prod(v.shape) for v in loaded) == sum(weights[key].size for key in wanted)


@pytest.mark.parametrize("encoder", LITES[1:])
def test_folded_normalisation_computes_the_same(encoder):
    image = np.random.default_rng(2).uniform(0, 255, (1, 64, 96, 3)).astype(np.float32)
    one, other = (
        features_of(build(encoder=encoder, frozen=frozen), last).predict_on_batch(image)
        for frozen, last in ((0, "stage6_0_project_norm"), (8, "stage6_0_project"))
    )
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(one).max())


def test_an_encoder_without_normalisation_layers_learns_all_the_same():
    image = np.random.default_rng(2).uniform(0, 255, (1, 64, 96, 3)).astype(np.float32)
    with_layers, folded = build(), build(fold_norm=True)
    one = features_of(with_layers, "stage6_0_project_norm").predict_on_batch(image)
    other = features_of(folded, "stage6_0_project").predict_on_batch(image)
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(one).max())
    kernels = [len([v for v in m.trainable_variables if "kernel" in v.path]) for m in (with_layers, folded)]
    assert kernels[0] == kernels[1]
    assert not any("norm" in layer.name for layer in folded.layers)


def small(n_classes=2, **settings):
    """The decoder on five strided convolutions in place of an encoder."""
    inputs = features = keras.Input((None, None, 1))
    skips = []
    for width in (2, 3, 4, 5, 6):
        features = keras.layers.Conv2D(width, 3, strides=2, padding="same")(features)
        skips.append(features)
    settings = EncoderUnetSettings(**{"up_widths": (8, 6, 5, 4, 3), **settings})
    return keras.Model(inputs, attach_decoder(skips, inputs, n_classes, settings))


@pytest.mark.parametrize("up_widths", [(8, 6, 5, 4), (8, 6, 5, 4, 3)])
def test_every_level_adds_logits_of_its_own(up_widths):
    model = small(up_widths=up_widths, summed_logits=True, head="multiclass")
    names = [layer.name for layer in model.layers if layer.name.startswith("logits")]
    assert sorted(names) == ["logits", "logits_0", "logits_1", "logits_2", "logits_3"]
    assert [model.get_layer(name).kernel.shape[2] for name in sorted(names)[1:]] == [8, 6, 5, 4]
    for name in names:  # alone, a level's bias of 1 for the last class is there at every pixel
        for other in names:
            kernel, bias = model.get_layer(other).get_weights()
            model.get_layer(other).set_weights([kernel * 0, bias * 0 + (other == name) * np.eye(3)[2]])
        probs = model.predict_on_batch(np.full((1, 32, 64, 1), 9, np.float32))
        np.testing.assert_allclose(probs[..., 2], np.e / (np.e + 2), atol=1e-6)


def test_coarse_logits_are_upsampled_bilinearly_and_summed():
    coarse, fine = keras.Input((1, 2, 1)), keras.Input((2, 4, 1))
    outputs = attach_head(fine, fine, 1, "multilabel", (coarse,))
    model = keras.Model([coarse, fine], outputs)
    for name in ("logits_0", "logits"):
        model.get_layer(name).set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    shown = np.array([0, 4], np.float32).reshape(1, 1, 2, 1), np.ones((1, 2, 4, 1), np.float32)
    probs = model.predict_on_batch(shown)[0, :, :, 0]
    logits = np.log(probs / (1 - probs))
    np.testing.assert_allclose(logits, [[1, 2, 4, 5]] * 2, atol=1e-4)  # 1 + (0, 1, 3, 4)


def test_a_gate_gives_background_what_it_takes_from_classes():
    probs = np.array([[[0.5, 0.3, 0.2], [0.1, 0.9, 0]], [[0, 0, 1], [1, 0, 0]]], np.float32)[None]
    gate = np.array([[0.5, 1]], np.float32)
    gated = [[[0.65, 0.15, 0.2], [0.55, 0.45, 0]], [[0, 0, 1], [1, 0, 0]]]
    np.testing.assert_allclose(ImageGate()([probs, gate])[0], gated, atol=1e-6)
    np.testing.assert_allclose(ImageGate()([probs[..., 1:], gate])[0], np.array(gated)[..., 1:], atol=1e-6)


def test_a_gate_is_each_image_s_own():
    probs = np.full((2, 1, 3, 2), 0.5, np.float32)
    gated = np.asarray(ImageGate()([probs, np.array([[1, 0.5], [0, 0.2]], np.float32)]))
    np.testing.assert_allclose(gated[:, 0, 2], [[0.5, 0.25], [0, 0.1]])
    assert gated.shape == probs.shape


@pytest.mark.parametrize("head", ["multilabel", "multiclass"])
def test_an_image_head_starts_at_95_percent_and_learns_from_the_network_s_loss(head):
    model = small(image_head=True, head=head)
    plain = keras.Model(model.inputs, model.get_layer("probabilities").output)
    image = np.random.default_rng(3).uniform(0, 9, (2, 32, 64, 1)).astype(np.float32)
    probs = plain.predict_on_batch(image)
    np.testing.assert_allclose(model.predict_on_batch(image)[..., -2:], 0.95 * probs[..., -2:], rtol=1e-5)
    model.compile("sgd", "mse", jit_compile=False)
    before = model.get_layer("image_head").get_weights()
    assert before[0].shape == (6 + 6, 2)  # maximum and mean of the deepest features
    model.train_on_batch(image, np.zeros_like(probs))
    for old, new in zip(before, model.get_layer("image_head").get_weights(), strict=True):
        assert not np.array_equal(old, new)


def test_by_default_a_decoder_has_neither_image_head_nor_logits_of_its_levels():
    names = {layer.name for layer in small().layers}
    assert "logits" in names
    assert not names & {"logits_0", "image_head", "gated"}


def test_a_saved_model_with_both_predicts_the_same(tmp_path):
    model = small(summed_logits=True, image_head=True, head="multiclass")
    model.save(tmp_path / "model.keras")
    image = np.random.default_rng(4).uniform(0, 9, (1, 32, 64, 1)).astype(np.float32)
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(loaded.predict_on_batch(image), model.predict_on_batch(image))
