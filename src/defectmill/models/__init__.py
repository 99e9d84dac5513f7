"""Networks; `build_model` makes the one that an experiment asks for."""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from defectmill.config import ConfigError, Experiment
from defectmill.files import DefectmillError, check_file, read_text
from defectmill.models.backbone_unet import build_backbone_unet
from defectmill.models.encoder_unet import build_encoder_unet
from defectmill.models.flexunet import build_flexunet
from defectmill.models.unet import build_unet
from defectmill.products.manifest import check_network

logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of images of many sizes, as they are
BUILD: dict[str, Any] = {
    "unet": build_unet,
    "encoder_unet": build_encoder_unet,
    "flexunet": build_flexunet,
    "backbone_unet": build_backbone_unet,
}


def build_model(experiment: Experiment, pretrained: bool = True) -> keras.Model:
    """Build an experiment's network.

    Args:
        pretrained: False: without the weights it would start from, for a network whose own are read next.
    Returns:
        Model from (N, H, W, channels) 0..255, of any H and W, to probabilities (N, H, W, C), or
        (N, H, W, 1 + C) with background first for the multiclass head. The experiment's seed decides the
        initial weights.
    Raises:
        ConfigError: weights that are missing or of another network.
    """
    settings, info = experiment.model, experiment.info
    if not pretrained:
        without = {"pretrained": False, "weights": "none"}
        fields = type(settings).model_fields
        settings = settings.model_copy(update={key: without[key] for key in without if key in fields})
    keras.utils.set_random_seed(experiment.seed)
    try:
        return BUILD[settings.name](settings, info.n_classes, experiment.data.channels)
    except ValueError as error:
        raise ConfigError(f"{experiment.name}: {error}") from error


def list_layers(model: keras.Model, shape: tuple[int, int]) -> pd.DataFrame:
    """List a network's convolutions for images of `shape`, in the order they run.

    Returns:
        layer, type, height, width and channels of its output, parameters, trainable.
    """
    found = [layer for layer in model.layers if "Conv" in type(layer).__name__]
    inner = keras.Model(model.inputs, [layer.output for layer in found])
    shapes = inner.compute_output_shape((1, *shape, model.input_shape[-1]))
    columns = ["layer", "type", "height", "width", "channels", "parameters", "trainable"]
    rows = [
        (layer.name, type(layer).__name__, *output[1:], layer.count_params(), layer.trainable)
        for layer, output in zip(found, shapes, strict=True)
    ]
    return pd.DataFrame(rows, columns=columns)


def load_networks(run: Experiment, task: str) -> list[tuple[Experiment, keras.Model]]:
    """Read trained networks, each with the experiment that it belongs to, whose `network` it is.

    Args:
        task: what they are to predict, "test" images or one's own ("infer"); or the name of a network, which
            every member of an ensemble has.
    Raises:
        ConfigError: a network that is not trained yet, or with other data settings or folds than the
            experiment has now: it would be shown other images than it has learned from, or known ones.
    """
    networks = []
    for part in run.load_parts():
        names = {"test": part.test_networks(), "infer": part.infer_networks}.get(task, (task,))
        for name in names:
            path = part.require(part.network_folder(name) / "model.keras", "train")
            noted = part.require(path.with_name("trained.json"), "train")
            wanted = {"network": name, "shown": describe_shown(part)}
            todo = f"say the SET of its training, or `make train EXPERIMENT={part.name}`"
            try:
                note = json.loads(read_text(noted))
                found = {key: note[key] for key in wanted}
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ConfigError(f"{noted}: does not say what was trained ({error}): {todo}") from error
            if found != wanted:
                raise ConfigError(f"{path}: is {found}, wanted {wanted}: {todo}")
            check_network(part, path)
            networks.append((part.model_copy(update={"network": name}), load_model(path, part)))
    return networks


def describe_shown(run: Experiment) -> dict[str, Any]:
    """Say how images are shown to a network, in training and in prediction alike."""
    settings = run.data.model_dump(mode="json")
    return {key: settings[key] for key in ("mode", "channels", "shape", "scale") if key in settings}


def load_model(path: Path, run: Experiment) -> keras.Model:
    """Read a trained network, for prediction.

    Where another version of Keras wrote it in words that this one does not know, it is built as the settings
    say, and gets the weights of the file.

    ConfigError: there is none that Keras can read, it holds code, or its weights are not finite.
    """
    try:
        # Safe mode: code that the file brings along is not run.
        model = keras.models.load_model(check_file(Path(path)), compile=False, safe_mode=True)
    except MemoryError:
        raise
    except Exception as error:  # Keras raises nearly anything of damaged files
        why = " ".join(str(error).split())
        try:
            model = load_weights(run, path)
        except DefectmillError as other:
            offence = f"{path}: not a model: {why:.500}; nor weights of the network that {run.name} has now"
            raise ConfigError(f"{offence}; make train writes it") from other
    refuse_broken_weights(model, path)
    return model


def load_weights(run: Experiment, path: Path) -> keras.Model:
    """Build an experiment's network with the weights of a file, .keras or .weights.h5, of any Keras 3.

    DefectmillError: no file of weights of this network; where some are missing Keras itself only warns.
    """
    check_file(path)
    model = build_model(run, pretrained=False)
    try:
        with warnings.catch_warnings(action="error", category=UserWarning):
            model.load_weights(path)
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises nearly anything
        told = f"{path}: not the weights of the network that {run.name} has now"
        why = " ".join(str(error).split())
        raise ConfigError(f"{told} ({why:.500}): `make train EXPERIMENT={run.name}`") from error
    return model


def find_broken_weight(model: keras.Model) -> str:
    """Path of the first weight that holds nan or inf, and how much of it; "" where all are finite."""
    for weight in model.weights:
        broken = ~np.isfinite(keras.ops.convert_to_numpy(weight))
        if broken.any():
            return f"{weight.path} ({broken.sum():,} of {broken.size:,} values)"
    return ""


def refuse_broken_weights(model: keras.Model, path: Path) -> None:
    """Raise ConfigError where weights that were read from `path` are not finite."""
    if broken := find_broken_weight(model):
        raise ConfigError(f"{path}: holds weights that are nan or inf, first {broken}: train it anew")
