"""FlexUNet: a U-Net whose kernels shrink and whose filters double level by level.

The network of the TensorFlow-FlexUNet experiments, knob by knob. Ronneberger et al. 2015,
arXiv:1505.04597, with dilation as of Yu & Koltun 2015, arXiv:1511.07122.
"""

import keras
from keras import layers

from defectmill.models.layers import PadToMultiple, attach_head, normalize


def build_flexunet(
    n_classes: int,
    channels: int = 3,
    filters: int = 16,
    kernel: int = 11,
    levels: int = 8,
    dilation: int = 1,
    dropout: float = 0.05,
    activation: str = "relu",
    normalization: str = "none",
    rescale: bool = True,
    head: str = "multiclass",
) -> keras.Model:
    """Build the network.

    Level i, from 0: filters * 2^i filters, kernels of max(3, kernel - 2i), dilation of
    max(1, dilation - i), dropout at a rate of i * `dropout`; the decoder takes the encoder's.

    Args:
        n_classes: C, background not counted.
        channels: of the picture, 0..255.
        levels: the deepest among them; levels - 1 halvings.
        normalization: none, batch or group, after each convolution.
        rescale: divide the picture by 255.
        head: multilabel (N, H, W, C) or multiclass (N, H, W, 1 + C), see `attach_head`.
    Raises:
        ValueError: a dropout rate of 1 or more at the deepest level.
    """
    if dropout * (levels - 1) >= 1:
        raise ValueError(f"dropout {dropout} is {dropout * (levels - 1):g} at level {levels - 1}")
    inputs = keras.Input((None, None, channels), name="image")
    x = layers.Rescaling(1 / 255)(inputs) if rescale else inputs
    x = PadToMultiple(2 ** (levels - 1))(x)

    def block(x, level: int):
        for again in (False, True):
            x = layers.Dropout(dropout * level)(x) if again and dropout * level else x
            x = layers.Conv2D(
                filters * 2**level, max(3, kernel - 2 * level), padding="same",
                dilation_rate=max(1, dilation - level), activation=activation,
                kernel_initializer="he_normal",
            )(x)  # fmt: skip
            x = normalize(x, normalization)
        return x

    skips = []
    for level in range(levels - 1):
        x = block(x, level)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, levels - 1)
    for level, skip in reversed(list(enumerate(skips))):
        x = layers.Conv2DTranspose(filters * 2**level, 2, strides=2, padding="same")(x)
        x = block(layers.Concatenate()([x, skip]), level)
    return keras.Model(inputs, attach_head(x, inputs, n_classes, head), name="flexunet")
