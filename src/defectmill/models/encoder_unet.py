"""U-Net decoder on EfficientNet-Lite0 with its ImageNet weights.

Encoder: Tan & Le 2019, arXiv:1905.11946, in the Lite variant of the TensorFlow TPU models
(ReLU6, no squeeze-and-excitation, fixed stem and head), up to its last stage.
"""

from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import layers

from defectmill.models.layers import MOMENTUM, PadToMultiple, attach_head, convolve
from defectmill.models.pretrained import lite0_weights

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
PARTS = ("stem", *(f"stage{number}_" for number in range(len(STAGES))))
SKIPS = (0, 1, 2, 4)  # the last stage at strides 2, 4, 8 and 16
EPSILON = 1e-3


def build_encoder_unet(
    n_classes: int,
    channels: int = 1,
    up_widths: Sequence[int] = (96, 64, 40, 24, 16),
    normalization: str = "batch",
    dropout: float = 0.0,
    head: str = "multilabel",
    pretrained: bool = True,
    frozen: int = 0,
) -> keras.Model:
    """Build the network.

    Args:
        n_classes: C, background not counted.
        channels: 1 or 3; a grey picture meets the stem's weights summed over colours.
        up_widths: of the decoder at strides 16, 8, 4, 2 and 1; with four, one transposed
            convolution goes from stride 2 to 1, which is faster.
        normalization: of the decoder.
        dropout: rate on the deepest features.
        head: multilabel (N, H, W, C) or multiclass (N, H, W, 1 + C), see `attach_head`.
        pretrained: ImageNet weights in the encoder, else random ones.
        frozen: of the stem and the seven stages, how many stay as they are; their batch
            normalisation is folded into their convolutions, which is faster.
    Raises:
        ValueError: neither four nor five up_widths.
    """
    if len(up_widths) not in (len(SKIPS), len(SKIPS) + 1):
        raise ValueError(f"{len(up_widths)} up_widths; encoder_unet needs 4 or 5")
    inputs = keras.Input((None, None, channels), name="image")
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(inputs)
    x = PadToMultiple(32)(x)
    x = _unit(x, "stem", layers.Conv2D, 32, 3, 2, frozen > 0)
    skips = []
    for number, stage in enumerate(STAGES):
        x = _stage(x, number, stage, frozen > number + 1)
        if number in SKIPS:
            skips.append(x)
    x = layers.Dropout(dropout)(x) if dropout else x
    for level, width in enumerate(up_widths):
        x = layers.UpSampling2D(2, interpolation="nearest")(x)
        if level < len(skips):
            x = layers.Concatenate()([x, skips[-1 - level]])
        x = convolve(x, width, 3, "relu", normalization)
    if len(up_widths) == len(skips):
        x = layers.Conv2DTranspose(
            up_widths[-1] // 2, 4, strides=2, padding="same", activation="relu",
            kernel_initializer="he_normal",
        )(x)  # fmt: skip
    model = keras.Model(inputs, attach_head(x, inputs, n_classes, head), name="encoder_unet")
    if pretrained:
        _load_weights(model, channels)
    return model


def _stage(x, number: int, stage: tuple[int, int, int, int, int], frozen: bool):
    expansion, width, repeats, stride, kernel = stage
    for repeat in range(repeats):
        name, before = f"stage{number}_{repeat}", x
        if expansion > 1:
            x = _unit(x, f"{name}_expand", layers.Conv2D, expansion * x.shape[-1], 1, 1,
                      frozen)  # fmt: skip
        x = _unit(x, f"{name}_depthwise", layers.DepthwiseConv2D, None, kernel,
                  stride if repeat == 0 else 1, frozen)  # fmt: skip
        x = _unit(x, f"{name}_project", layers.Conv2D, width, 1, 1, frozen,
                  activate=False)  # fmt: skip
        if before.shape[-1] == width and repeat:
            x = layers.Add(name=f"{name}_add")([x, before])
    return x


def _unit(x, name: str, layer, width, kernel: int, stride: int, frozen: bool, activate=True):
    size = {} if width is None else {"filters": width}
    x = layer(**size, kernel_size=kernel, strides=stride, padding="same", use_bias=frozen,
              name=name, trainable=not frozen)(x)  # fmt: skip
    if not frozen:
        x = layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_act")(x) if activate else x


def _torch_names() -> Iterator[tuple[str, str, str]]:
    """Our layer, the convolution and its normalisation in the weights file."""
    yield "stem", "_conv_stem", "_bn0"
    block = 0
    for number, (expansion, _, repeats, _, _) in enumerate(STAGES):
        for repeat in range(repeats):
            ours, theirs = f"stage{number}_{repeat}", f"_blocks.{block}"
            if expansion > 1:
                yield f"{ours}_expand", f"{theirs}._expand_conv", f"{theirs}._bn0"
            yield f"{ours}_depthwise", f"{theirs}._depthwise_conv", f"{theirs}._bn1"
            yield f"{ours}_project", f"{theirs}._project_conv", f"{theirs}._bn2"
            block += 1


def _load_weights(model: keras.Model, channels: int) -> None:
    weights = lite0_weights()
    for ours, conv, norm in _torch_names():
        kernel = weights[f"{conv}.weight"]
        # PyTorch (out, in, H, W), depthwise (C, 1, H, W) -> Keras (H, W, in, out), (H, W, C, 1).
        kernel = (
            kernel.transpose(2, 3, 0, 1) if "depthwise" in ours else kernel.transpose(2, 3, 1, 0)
        )
        if ours == "stem" and channels == 1:
            kernel = kernel.sum(axis=2, keepdims=True)
        gamma, beta, mean, variance = (
            weights[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        layer = model.get_layer(ours)
        if layer.use_bias:
            scale = gamma / np.sqrt(variance + EPSILON)
            axis = (1, 1, -1, 1) if "depthwise" in ours else (1, 1, 1, -1)
            layer.set_weights([kernel * scale.reshape(axis), beta - mean * scale])
        else:
            layer.set_weights([kernel])
            model.get_layer(f"{ours}_norm").set_weights([gamma, beta, mean, variance])
