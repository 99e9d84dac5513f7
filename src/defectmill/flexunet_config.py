"""FlexUNet's train_eval_infer.config -> the equivalent experiment.

FlexUNet turns a misspelt or broken key into its default in silence; here every key is translated,
said to be needless, or called out.
"""

import ast
import difflib
import re
from collections.abc import Callable
from typing import Any

from defectmill.config import ConfigError

Config = dict[str, dict[str, Any]]

LOSSES = {
    "categorical_crossentropy": {"cross_entropy": 1.0},
    "bce_dice_loss": {"cross_entropy": 1.0, "flat_dice": 1.0},
}
METRICS = {"dice_coef_multiclass": "soft_pixel_accuracy", "dice_coef": "flat_dice"}


def _same(value: Any) -> Any:
    return value


def _square(value: Any) -> int:
    sides = set(value) if isinstance(value, tuple | list) else {value}
    if len(sides) != 1:
        raise ConfigError(f"{value}: kernels and dilations here are square")
    return sides.pop()


def _look_up(what: str, known: dict[str, Any]) -> Callable[[str], Any]:
    def look_up(name: str) -> Any:
        if name not in known:
            raise ConfigError(f"{what} {name!r} has no equivalent; known: {', '.join(known)}")
        return known[name]

    return look_up


_METRIC = _look_up("metric", METRICS)

# (section, key): knob, FlexUNet's default, how the value is turned into the knob's.
TRANSLATED: dict[tuple[str, str], tuple[str, Any, Callable[[Any], Any]]] = {
    ("model", "image_channels"): ("data.channels", 3, _same),
    ("model", "generator"): ("data.augment", False, lambda on: "flexunet" if on else "none"),
    ("model", "base_filters"): ("model.filters", 16, _same),
    ("model", "base_kernels"): ("model.kernel", 11, _square),
    ("model", "num_layers"): ("model.levels", 8, _same),
    ("model", "dropout_rate"): ("model.dropout", 0.05, _same),
    ("model", "dilation"): ("model.dilation", 1, _square),
    ("model", "activation"): ("model.activation", "relu", _same),
    ("model", "input_normalize"): ("model.rescale", False, bool),
    ("model", "normalization"): (
        "model.normalization", False, lambda on: "batch" if on else "none"),
    ("model", "learning_rate"): ("training.learning_rate", 1e-4, _same),
    ("model", "clipvalue"): ("training.clipvalue", 0.0, _same),
    ("model", "loss"): ("training.loss", "categorical_crossentropy", _look_up("loss", LOSSES)),
    ("model", "metrics"): (
        "training.metrics", ["dice_coef_multiclass"], lambda names: [_METRIC(n) for n in names]),
    ("train", "epochs"): ("training.epochs", 100, _same),
    ("train", "batch_size"): ("training.batch_size", 2, _same),
    ("train", "patience"): ("training.early_stop", 10, _same),
    ("train", "learning_rate_reducer"): (
        "training.schedule", False, lambda on: "reduce" if on else "constant"),
    ("train", "reducer_factor"): ("training.reducer_factor", 0.5, _same),
    ("train", "reducer_patience"): ("training.reducer_patience", 4, _same),
    ("train", "num_infer_images"): ("training.previews", 6, _same),
    ("tiledinfer", "split_size"): ("predict.tile", 512, lambda side: [side, side]),
    ("tiledinfer", "overlapping"): ("predict.overlap", 64, _same),
}  # fmt: skip
TILED = ("epoch_change_tiledinfer", "epoch_change_tiled_infer")
AUGMENT = ("generator", "augmentor", "deformation", "distortion", "sharpening", "brightening",
           "barrdistortion", "pincdistortion")  # fmt: skip
# Keys that an experiment does not need, by reason; "*" is any section.
NEEDLESS = {
    "does nothing in FlexUNet either": [
        "*.show_summary", "*.create_backup", "*.save_weights_only", "train.epoch_changeinfer",
        "train.epoch_changeinfer_dir"],
    "make input RAW=<folder> says where the pictures are": [
        "*.images_dir", "*.masks_dir", "*.image_datapath", "*.mask_datapath"],
    "products lie in output/<experiment>": [
        "*.output_dir", "*.model_dir", "*.eval_dir", "*.weights_dir",
        "train.epoch_change_infer_dir", *(f"train.{key}_dir" for key in TILED)],
    "it is data.shape": ["model.image_width", "model.image_height"],
    "it is model.name": ["model.model"],
    "Adam is the only optimizer": ["model.optimizer"],
    "it decides over training.previews and predict.tile": [
        "train.epoch_change_infer", *(f"train.{key}" for key in TILED)],
    "an epoch shows every image once": ["train.steps_per_epoch", "train.validation_steps"],
    "follows from [model] metrics": ["train.metrics"],
    "follows from rgb_map": ["model.num_classes"],
    "it is the dataset's card": ["mask.rgb_map"],
    "the adapter reads pictures and colour masks": ["dataset.datasetclass", "dataset.class_name"],
    "pictures shrink by area, masks by the nearest pixel": ["dataset.resize_interpolation"],
    "pictures and palette are red-green-blue": ["*.color_order"],
    "masks are read by content and colour": ["mask.mask_file_format", "mask.mask_datatype"],
}  # fmt: skip
_REASONS = {tuple(key.split(".")): reason for reason, keys in NEEDLESS.items() for key in keys}


def translate(config: Config) -> tuple[dict[str, Any], list[tuple[int, int, int]], dict[str, str]]:
    """Turn a configuration into knobs.

    Returns:
        knobs by dotted name; the colours of the defect classes in order; and for every key of
        the file, as "[section] key", what became of it.
    Raises:
        ConfigError: a loss, optimizer or metric without an equivalent, or classes and colours
            that contradict one another.
    """
    model, train = config.get("model", {}), config.get("train", {})
    if model.get("optimizer", "Adam") != "Adam":
        raise ConfigError(f"[model] optimizer = {model['optimizer']!r}: there is Adam only")
    colours = read_colours(config)
    knobs = {
        "model.name": "flexunet", "model.head": "multiclass", "data.mode": "resize",
        "data.shape": [model.get("image_height", 512), model.get("image_width", 512)],
    }  # fmt: skip
    tiled = any(train.get(key) for key in TILED)
    for (section, key), (knob, default, convert) in TRANSLATED.items():
        if section != "tiledinfer" or tiled:
            knobs[knob] = convert(config.get(section, {}).get(key, default))
    if not (tiled or train.get("epoch_change_infer")):
        knobs["training.previews"] = 0
    fates = {
        f"[{section}] {key}": _tell(section, key, config, knobs)
        for section, keys in config.items()
        for key in keys
    }
    return knobs, colours, fates


def read_colours(config: Config) -> list[tuple[int, int, int]]:
    """The colours of the defect classes, by class id.

    Raises:
        ConfigError: no rgb_map, background is not black and 0, a gap, or num_classes differs.
    """
    palette = config.get("mask", {}).get("rgb_map")
    if not isinstance(palette, dict) or len(palette) < 2:
        raise ConfigError(f"[mask] rgb_map = {palette!r}: no colours of background and classes")
    order = sorted(palette, key=palette.get)
    if sorted(palette.values()) != list(range(len(palette))) or tuple(order[0]) != (0, 0, 0):
        raise ConfigError(f"[mask] rgb_map = {palette}: black is 0 and classes count from 1")
    n_classes = config.get("model", {}).get("num_classes", len(palette))
    if n_classes != len(palette):
        raise ConfigError(f"[model] num_classes = {n_classes}, but rgb_map has {len(palette)}")
    return [tuple(colour) for colour in order[1:]]


def compare_readme(config: Config, readme: str) -> list[str]:
    """Find `key = value` lines of a README that contradict the configuration."""
    said = []
    for key, text in re.findall(r"^\s*(\w+)\s*=\s*([^;\n]+)", readme, re.MULTILINE):
        try:
            value = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            continue
        real = [keys[key] for keys in config.values() if key in keys]
        if real and value not in real:
            said.append(f"{key}: the README says {value}, the file {real[0]}")
    return list(dict.fromkeys(said))


def _tell(section: str, key: str, config: Config, knobs: dict[str, Any]) -> str:
    if (section, key) in TRANSLATED:
        knob = TRANSLATED[section, key][0]
        return f"{knob} = {knobs[knob]}" if knob in knobs else "not needed: nothing is tiled"
    if section in AUGMENT:
        on = config.get("model", {}).get("generator")
        return ("not needed: data.augment has its own ranges" if on
                else "not needed: generator is off, so it is never used")  # fmt: skip
    reason = _REASONS.get((section, key)) or _REASONS.get(("*", key))
    if reason:
        return f"not needed: {reason}"
    known = [known for _, known in (*TRANSLATED, *_REASONS)]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    hint = f"; did you mean {near[0]!r}? FlexUNet took its default" if near else ""
    return f"UNKNOWN, not translated{hint}"
