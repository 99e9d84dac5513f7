"""Networks; `build_model` makes the one that an experiment asks for."""

from pathlib import Path

import keras
import pandas as pd

from defectmill.config import ConfigError, Experiment
from defectmill.models.encoder_unet import build_encoder_unet
from defectmill.models.flexunet import build_flexunet
from defectmill.models.unet import build_unet

# Each network with the knobs that are its own.
BUILDERS = {
    "unet": (build_unet, ("widths", "up_widths", "activation")),
    "encoder_unet": (build_encoder_unet, ("up_widths", "pretrained", "frozen")),
    "flexunet": (
        build_flexunet,
        ("filters", "kernel", "levels", "dilation", "activation", "rescale"),
    ),
}


def build_model(experiment: Experiment) -> keras.Model:
    """Build an experiment's network; its classes come from the dataset's card.

    Returns:
        Model from (N, H, W, channels) 0..255, of any H and W, to probabilities (N, H, W, C), or
        (N, H, W, 1 + C) with background first for the multiclass head. Weights are drawn from
        the experiment's seed.
    Raises:
        ConfigError: knobs that do not fit one another.
    """
    knobs = experiment.model
    if knobs.head == "multiclass" and not experiment.card.exclusive:
        raise ConfigError(f"{experiment.dataset}: classes may overlap; use the multilabel head")
    keras.utils.set_random_seed(experiment.seed)
    build, own = BUILDERS[knobs.name]
    shared = {
        "n_classes": len(experiment.card.classes),
        "channels": experiment.data.channels,
        "normalization": knobs.normalization,
        "dropout": knobs.dropout,
        "head": knobs.head,
    }
    try:
        return build(**shared, **{name: getattr(knobs, name) for name in own})
    except ValueError as error:
        raise ConfigError(f"{experiment.name}: {error}") from error


def list_layers(model: keras.Model, shape: tuple[int, int]) -> pd.DataFrame:
    """List a network's convolutions for pictures of `shape`, in the order they run.

    Returns:
        layer, type, height, width, channels of what it gives, parameters, trainable.
    """
    kinds = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Conv2DTranspose)
    found = [layer for layer in model.layers if isinstance(layer, kinds)]
    inner = keras.Model(model.inputs, [layer.output for layer in found])
    shapes = inner.compute_output_shape((1, *shape, model.input_shape[-1]))
    return pd.DataFrame(
        [
            (layer.name, type(layer).__name__, *given[1:], layer.count_params(), layer.trainable)
            for layer, given in zip(found, shapes, strict=True)
        ],
        columns=["layer", "type", "height", "width", "channels", "parameters", "trainable"],
    )


def load_model(path: Path) -> keras.Model:
    """Read a trained network, for prediction.

    Raises:
        ConfigError: no such file, or one that Keras cannot read.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not a model: {error}; make train writes it") from error
