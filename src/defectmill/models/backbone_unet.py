"""U-Net decoder on a backbone of keras.applications, whose weights come from a file of one's own.

Nothing is downloaded. Features are found by their size, so any backbone will do that has them at stride 32.
"""

import importlib
import inspect

import keras
from keras import layers

from defectmill import files
from defectmill.config import ConfigError
from defectmill.models.layers import PadToMultiple, attach_decoder
from defectmill.settings import BackboneUnetSettings

STRIDES = (2, 4, 8, 16, 32)
PROBE = (320, 384)  # a size that every stride divides; not square, so that 1x1 features fit no stride
BACKBONES = dict(inspect.getmembers(keras.applications, inspect.isfunction))


def build_backbone_unet(settings: BackboneUnetSettings, n_classes: int, channels: int) -> keras.Model:
    """Build the network, see `build_model`; `n_classes` does not count background.

    The decoder is that of `attach_decoder`; it takes the last features at each stride. A grey image is
    repeated to three channels. ConfigError: a backbone without features at stride 32; a missing weights file
    or one of another network.
    """
    inputs = keras.Input((None, None, channels), name="image")
    x = PadToMultiple(max(STRIDES))(inputs)
    x = layers.Concatenate()([x] * 3) if channels == 1 else x
    backbone = _build_backbone(settings, x)
    if settings.frozen:
        backbone.trainable = False
    features = _find_features(backbone)
    if features[-1] is None:
        raise ConfigError(
            f"model.backbone={settings.backbone} has no features at stride 32 of any image; take another"
        )
    return keras.Model(inputs, attach_decoder(features, inputs, n_classes, settings), name="backbone_unet")


def _build_backbone(settings: BackboneUnetSettings, x) -> keras.Model:
    name, weights = settings.backbone, settings.weights
    module = importlib.import_module(BACKBONES[name].__module__)
    # The identity for backbones that prepare the image themselves.
    x = module.preprocess_input(x)
    backbone = BACKBONES[name](include_top=False, weights=None, input_tensor=x)
    if weights == "none":
        return backbone
    path = files.ROOT / weights
    if not path.is_file():
        raise ConfigError(f"model.weights: {path} is missing; set it to a file that exists, or to none")
    try:
        backbone.load_weights(path)
    except Exception as error:  # a file of another network or format raises nearly anything
        wanted = f"not the weights of keras.applications.{name}(include_top=False)"
        raise ConfigError(f"model.weights: {path}: {wanted}: {error}") from error
    return backbone


def _find_features(backbone: keras.Model) -> list:
    """Find the last features at each of `STRIDES`; None where there are none."""
    channels = backbone.input_shape[-1]
    outputs = [layer.output for layer in backbone.layers if len(layer.output.shape) == 4]
    try:
        shapes = keras.Model(backbone.inputs, outputs).compute_output_shape((1, *PROBE, channels))
    except ValueError:  # branches of NASNet do not meet when it is built for any size
        return [None] * len(STRIDES)
    sizes = zip(outputs, (shape[1:3] for shape in shapes), strict=True)
    found = {PROBE[0] / h: output for output, (h, w) in sizes if PROBE[0] / h == PROBE[1] / w}
    return [found.get(stride) for stride in STRIDES]
