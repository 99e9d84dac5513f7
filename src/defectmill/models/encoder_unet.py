"""U-Net decoder on EfficientNet-Lite0 with its ImageNet weights.

Encoder: Tan & Le 2019, arXiv:1905.11946, in the Lite variant of the TensorFlow TPU models (ReLU6, no
squeeze-and-excitation, fixed stem and head), up to its last stage.
"""

from typing import Any

import keras
import numpy as np
from keras import layers

from defectmill.config import ConfigError
from defectmill.models.layers import MOMENTUM, PadToMultiple, attach_head, convolve
from defectmill.models.pretrained import lite0_weights
from defectmill.settings import EncoderUnetSettings

# (expansion, width, repeats, stride, kernel) of each stage of Lite0.
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
PARTS = ("stem", *(f"stage{number}_" for number in range(len(STAGES))))  # what encoder layers begin with
SKIPS = (0, 1, 2, 4)  # the last stage at strides 2, 4, 8 and 16
EPSILON = 1e-3
NORMS = {"stem": "_bn0", "expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}  # in the weights file


def build_encoder_unet(settings: EncoderUnetSettings, n_classes: int, channels: int) -> keras.Model:
    """Build the network, see `build_model`; `n_classes` does not count background.

    `up_widths` are those of the decoder at strides 16, 8, 4, 2 and 1; with four, one transposed convolution
    goes from stride 2 to 1, which is faster. `normalization` is the decoder's, `dropout` the rate on the
    deepest features. Frozen convolutions have their batch normalisation folded in, which is faster too. For
    a grey image the weights of the stem are summed over the colours. ConfigError: neither four nor five
    up_widths.
    """
    up_widths = settings.up_widths
    if len(up_widths) not in (len(SKIPS), len(SKIPS) + 1):
        raise ConfigError(f"{len(up_widths)} up_widths; encoder_unet needs 4 or 5")
    inputs = keras.Input((None, None, channels), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(inputs)
    x = PadToMultiple(32)(x)
    frozen = [part < settings.frozen for part in range(len(PARTS))]
    how = [{"padding": "same", "use_bias": stays, "trainable": not stays} for stays in frozen]
    x = _unit(x, layers.Conv2D(32, 3, strides=2, name="stem", **how[0]))
    skips = []
    for number in range(len(STAGES)):
        x = _stage(x, number, how[number + 1])
        if number in SKIPS:
            skips.append(x)
    x = layers.Dropout(settings.dropout)(x) if settings.dropout else x
    for level, width in enumerate(up_widths):
        x = layers.UpSampling2D(2, interpolation="nearest")(x)
        if level < len(skips):
            x = layers.Concatenate()([x, skips[-1 - level]])
        x = convolve(x, width, "relu", settings.normalization)
    if len(up_widths) == len(skips):
        up = {"strides": 2, "padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
        x = layers.Conv2DTranspose(up_widths[-1] // 2, 4, **up)(x)
    model = keras.Model(inputs, attach_head(x, inputs, n_classes, settings.head), name="encoder_unet")
    if settings.pretrained:
        _load_weights(model)
    return model


def _stage(x, number: int, how: dict[str, Any]):
    expansion, width, repeats, first_stride, kernel = STAGES[number]
    for repeat in range(repeats):
        name, before, stride = f"stage{number}_{repeat}", x, 1 if repeat else first_stride
        if expansion > 1:
            x = _unit(x, layers.Conv2D(expansion * x.shape[-1], 1, name=f"{name}_expand", **how))
        x = _unit(x, layers.DepthwiseConv2D(kernel, stride, name=f"{name}_depthwise", **how))
        x = _unit(x, layers.Conv2D(width, 1, name=f"{name}_project", **how), activate=False)
        x = layers.Add(name=f"{name}_add")([x, before]) if repeat else x
    return x


def _unit(x, convolution: keras.layers.Layer, activate: bool = True):
    x, name = convolution(x), convolution.name
    if not convolution.use_bias:  # else it is frozen, and holds its normalisation
        x = layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_act")(x) if activate else x


def _load_weights(model: keras.Model) -> None:
    weights, block = lite0_weights(), 0
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
