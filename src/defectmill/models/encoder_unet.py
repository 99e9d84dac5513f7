"""U-Net decoder on EfficientNet-Lite0, 1 or 2 with their ImageNet weights.

Encoder: Tan & Le 2019, arXiv:1905.11946, in the Lite variant of the TensorFlow TPU models (ReLU6, no
squeeze-and-excitation, fixed stem and head), up to its last stage.
"""

from typing import Any

import keras
import numpy as np
from keras import layers

from defectmill.models.layers import MOMENTUM, PadToMultiple, attach_decoder
from defectmill.models.pretrained import encoder_weights
from defectmill.settings import EncoderUnetSettings

# (expansion, stride, kernel) of each stage.
STAGES = ((1, 1, 3), (6, 2, 3), (6, 2, 5), (6, 2, 3), (6, 1, 5), (6, 2, 5), (6, 1, 3))
WIDTHS = {
    "lite0": (16, 24, 40, 80, 112, 192, 320),
    "lite1": (16, 24, 40, 80, 112, 192, 320),
    "lite2": (16, 24, 48, 88, 120, 208, 352),
}
REPEATS = {"lite0": (1, 2, 2, 3, 3, 4, 1), "lite1": (1, 3, 3, 4, 4, 5, 1), "lite2": (1, 3, 3, 4, 4, 5, 1)}
PARTS = ("stem", *(f"stage{number}_" for number in range(len(STAGES))))  # what encoder layers begin with
SKIPS = (0, 1, 2, 4)  # the last stage at strides 2, 4, 8 and 16
EPSILON = 1e-3
NORMS = {"stem": "_bn0", "expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}  # in the weights file


def build_encoder_unet(settings: EncoderUnetSettings, n_classes: int, channels: int) -> keras.Model:
    """Build the network, see `build_model`; `n_classes` does not count background.

    `up_widths` and what else is the decoder's: see `attach_decoder`. Frozen convolutions have their batch
    normalisation folded in, which is faster, with `fold_norm` all of them. For a grey image the weights of
    the stem are summed over the colours.
    """
    inputs = keras.Input((None, None, channels), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(inputs)
    x = PadToMultiple(32)(x)
    frozen = [part < settings.frozen for part in range(len(PARTS))]
    folded = [stays or settings.fold_norm for stays in frozen]
    how = [
        {"padding": "same", "use_bias": has_bias, "trainable": not stays}
        for stays, has_bias in zip(frozen, folded, strict=True)
    ]
    x = _unit(x, layers.Conv2D(32, 3, strides=2, name="stem", **how[0]))
    features = []
    for number in range(len(STAGES)):
        x = _stage(x, number, settings.encoder, how[number + 1])
        if number in SKIPS:
            features.append(x)
    outputs = attach_decoder([*features, x], inputs, n_classes, settings)
    model = keras.Model(inputs, outputs, name="encoder_unet")
    if settings.pretrained:
        _load_weights(model, encoder_weights(settings.encoder))
    return model


def _stage(x, number: int, encoder: str, how: dict[str, Any]):
    expansion, first_stride, kernel = STAGES[number]
    width = WIDTHS[encoder][number]
    for repeat in range(REPEATS[encoder][number]):
        name, before, stride = f"stage{number}_{repeat}", x, 1 if repeat else first_stride
        if expansion > 1:
            x = _unit(x, layers.Conv2D(expansion * x.shape[-1], 1, name=f"{name}_expand", **how))
        x = _unit(x, layers.DepthwiseConv2D(kernel, stride, name=f"{name}_depthwise", **how))
        x = _unit(x, layers.Conv2D(width, 1, name=f"{name}_project", **how), activate=False)
        x = layers.Add(name=f"{name}_add")([x, before]) if repeat else x
    return x


def _unit(x, convolution: keras.layers.Layer, activate: bool = True):
    x, name = convolution(x), convolution.name
    if not convolution.use_bias:  # else it holds its normalisation
        x = layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_act")(x) if activate else x


def _load_weights(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    block = 0
    for layer in model.layers:
        part = layer.name.rpartition("_")[2]
        if part not in NORMS:
            continue
        above, conv = ("", "_conv_stem") if part == "stem" else (f"_blocks.{block}.", f"_{part}_conv")
        # PyTorch (out, in, H, W), depthwise (C, 1, H, W) -> Keras (H, W, in, out), (H, W, C, 1).
        axes = (2, 3, 0, 1) if part == "depthwise" else (2, 3, 1, 0)
        kernel = weights[f"{above}{conv}.weight"].transpose(axes)
        if part == "stem" and model.input_shape[-1] == 1:
            kernel = kernel.sum(axis=2, keepdims=True)
        names = ("weight", "bias", "running_mean", "running_var")
        gamma, beta, mean, variance = (weights[f"{above}{NORMS[part]}.{name}"] for name in names)
        if layer.use_bias:
            scale = gamma / np.sqrt(variance + EPSILON)
            by_channel = scale[:, None] if part == "depthwise" else scale
            layer.set_weights([kernel * by_channel, beta - mean * scale])
        else:
            layer.set_weights([kernel])
            model.get_layer(f"{layer.name}_norm").set_weights([gamma, beta, mean, variance])
        block += part == "project"
