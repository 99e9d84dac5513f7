"""FlexUNet's train_eval_infer.config -> the equivalent experiment.

The file is INI whose values are Python literals; nothing of it is run. FlexUNet turns a misspelt or broken
key into its default in silence; here every key is translated, said to be needless, or called out.
"""

import ast
import configparser
import json
import re
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from defectmill import files
from defectmill.config import ConfigError, load_experiment, set_value
from defectmill.dataset_info import Colour, DatasetInfo, builtin_datasets
from defectmill.files import show_text, write_if_changed
from defectmill.images import BLACK

Config = dict[str, Any]  # "section.key": value

LOSSES = {
    "categorical_crossentropy": {"cross_entropy": 1.0},
    "bce_dice_loss": {"cross_entropy": 1.0, "batch_dice": 1.0},
}
_SAME: Callable[[Any], Any] = lambda value: value  # noqa: E731
METRICS = {"dice_coef_multiclass": "soft_pixel_accuracy", "dice_coef": "batch_dice"}


def _square(value: Any) -> Any:
    sides = list(value) if isinstance(value, tuple | list) else [value]
    if not sides or sides.count(sides[0]) != len(sides):
        raise ConfigError(f"{value}: kernels and dilations here are square")
    return sides[0]


def _either(on: str, off: str) -> Callable[[Any], str]:
    return lambda value: on if value else off


def _equivalent(what: str, known: dict[str, Any], name: Any) -> Any:
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"{what} {name!r} has no equivalent; known: {', '.join(known)}")
    return known[name]


def _metrics(names: Any) -> list[str]:
    several = names if isinstance(names, list | tuple) else [names]
    return [_equivalent("metric", METRICS, name) for name in several]


# FlexUNet's key: setting, FlexUNet's default, how the value is turned into the setting's.
TRANSLATED: dict[str, tuple[str, Any, Callable[[Any], Any]]] = {
    "model.image_channels": ("data.channels", 3, _SAME),
    "model.generator": ("data.augment", False, _either("flexunet", "none")),
    "model.base_filters": ("model.filters", 16, _SAME),
    "model.base_kernels": ("model.kernel", 11, _square),
    "model.num_layers": ("model.levels", 8, _SAME),
    "model.dropout_rate": ("model.dropout", 0.05, _SAME),
    "model.dilation": ("model.dilation", 1, _square),
    "model.activation": ("model.activation", "relu", _SAME),
    "model.input_normalize": ("model.rescale", False, bool),
    "model.normalization": ("model.normalization", False, _either("batch", "none")),
    "model.learning_rate": ("training.learning_rate", 1e-4, _SAME),
    "model.clipvalue": ("training.clipvalue", 0.0, _SAME),
    "model.loss": ("training.loss", "categorical_crossentropy", partial(_equivalent, "loss", LOSSES)),
    "model.metrics": ("training.metrics", ["dice_coef_multiclass"], _metrics),
    "train.epochs": ("training.epochs", 100, _SAME),
    "train.batch_size": ("training.batch_size", 2, _SAME),
    "train.patience": ("training.early_stop", 10, _SAME),
    "train.learning_rate_reducer": ("training.schedule.name", False, _either("reduce", "constant")),
    "train.reducer_factor": ("training.schedule.factor", 0.5, _SAME),
    "train.reducer_patience": ("training.schedule.patience", 4, _SAME),
    "train.num_infer_images": ("training.previews", 6, _SAME),
    "tiledinfer.split_size": ("predict.tiles.shape", 512, lambda side: [side, side]),
    "tiledinfer.overlapping": ("predict.tiles.overlap", 64, _SAME),
}
TILED = ("train.epoch_change_tiledinfer", "train.epoch_change_tiled_infer")
AUGMENT = {"generator", "augmentor", "deformation", "distortion", "sharpening", "brightening"}
AUGMENT |= {"barrdistortion", "pincdistortion"}
# Keys that an experiment does not need, after the reason; "*" is any section.
NEEDLESS = """
does nothing in FlexUNet either: *.show_summary *.create_backup *.save_weights_only
does nothing in FlexUNet either: train.epoch_changeinfer train.epoch_changeinfer_dir
make input RAW=<folder> says where the images are: *.images_dir *.masks_dir *.image_datapath *.mask_datapath
products lie in output/<experiment>: *.output_dir *.model_dir *.eval_dir *.weights_dir
products lie in output/<experiment>: train.epoch_change_infer_dir train.epoch_change_tiledinfer_dir
products lie in output/<experiment>: train.epoch_change_tiled_infer_dir
it is data.shape: model.image_width model.image_height
it is model.name: model.model
Adam is the only optimizer: model.optimizer
it decides over training.previews and predict.tiles: train.epoch_change_infer train.epoch_change_tiledinfer
it decides over training.previews and predict.tiles: train.epoch_change_tiled_infer
an epoch shows every image once: train.steps_per_epoch train.validation_steps
follows from [model] metrics: train.metrics
follows from rgb_map: model.num_classes
it is in the dataset's description: mask.rgb_map
images and colour masks are read from their folders: dataset.datasetclass dataset.class_name
images shrink by area, masks by the nearest pixel: dataset.resize_interpolation
images and palette are red-green-blue: *.color_order
masks are read by content and colour: mask.mask_file_format mask.mask_datatype
"""
_LINES = [line.partition(": ") for line in NEEDLESS.strip().splitlines()]
_REASONS = {key: why for why, _, keys in _LINES for key in keys.split()}


def import_config(path: Path, name: str = "") -> str:
    """Write notebooks/experiments/<name>.yml, and the description of a dataset that is not known yet.

    Args:
        path: train_eval_infer.config; a README.md beside it is compared with it.
        name: of the experiment; "" takes the folder's.
    Returns:
        What became of every key, to print.
    Raises:
        ConfigError: see `read_literal_ini` and `translate`; or the experiment exists.
    """
    config = read_literal_ini(path)
    try:
        settings, colours, said = translate(config)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    folder = path.resolve().parent.name
    name = files.check_name(name or re.sub(r"[^a-z0-9]+", "-", folder.lower()).strip("-"), "EXPERIMENT")
    target = files.ROOT / "notebooks" / "experiments" / f"{name}.yml"
    if target.exists():
        raise ConfigError(f"{target} exists; give another name: make import-config EXPERIMENT=...")
    known = {tuple(info.colours): info.name for info in builtin_datasets().values()}
    values: dict[str, Any] = {"dataset": known.get(tuple(colours), name)}
    for setting, value in settings.items():
        set_value(values, setting, value)
    described = files.ROOT / "input" / name / "info.json"
    is_new = tuple(colours) not in known and not described.exists()
    if is_new:
        write_if_changed(described, _describe(name, colours, path))
    if tuple(colours) not in known:
        said.append(f"classes: {described} names them; change that to your names")
    text = yaml.safe_dump(values, sort_keys=False)
    try:
        write_if_changed(target, f"# What: {path.name} of {show_text(folder)}, imported.\n{text}")
        load_experiment(name)
    except BaseException:
        target.unlink(missing_ok=True)
        if is_new:
            described.unlink()
        raise
    readme = path.parent / "README.md"
    if readme.is_file():
        said += compare_readme(config, readme.read_text(encoding="utf-8", errors="replace"))
    return "\n".join([*said, f"{target}: make EXPERIMENT={name} RAW=<folder of images and masks>"])


def _describe(name: str, colours: list[Colour], path: Path) -> str:
    """Describe, as JSON, a dataset whose classes have no names yet; ConfigError for colours that are none."""
    kinds = [{"id": i, "name": f"class {i}", "colour": colour} for i, colour in enumerate(colours, 1)]
    try:
        info = DatasetInfo.model_validate({"name": name, "title": name, "classes": kinds})
        return json.dumps(info.model_dump(exclude_defaults=True), indent=1) + "\n"
    except ValidationError as error:
        wanted = "colours are (red, green, blue), whole numbers from 0 to 255, all different"
        raise ConfigError(f"{path}: [mask] rgb_map has {colours}: {wanted}") from error


def read_literal_ini(path: Path) -> Config:
    """Read the values; `;` begins a comment.

    Raises:
        ConfigError: no such file, a line that is no section or key, a key twice, a value that is no literal.
    """
    parser = configparser.ConfigParser(interpolation=None, inline_comment_prefixes=(";",))
    try:
        parser.read_string(_join_brackets(files.read_text(path)), str(path))
    except files.DefectmillError as error:
        raise ConfigError(str(error)) from error
    except configparser.Error as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    config: Config = {}
    for section in parser.sections():
        for key, text in parser[section].items():
            try:
                config[f"{section}.{key}"] = read_literal(text)
            except ConfigError as error:
                raise ConfigError(f"{path} [{section}] {key} = {text}: {error}") from error
    return config


def read_literal(text: str) -> Any:
    """Read a Python literal: None, truth values, text, numbers, and lists, tuples and dicts of these.

    ConfigError: it is none of them, is nested without end, or holds a number that no setting takes.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd escapes in text
            value = ast.literal_eval(text)
        if _is_plain(value):
            return value
    # What is nested without end exhausts the parser; a list as a key is a TypeError.
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise ConfigError("not a Python literal; quote text") from error
    raise ConfigError("text, numbers below 10^18, True, False, None, and lists or dicts of them are read")


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    is_number = isinstance(value, int | float) and abs(value) < 10**18  # neither inf nor nan
    return value is None or is_number or isinstance(value, str)


def translate(config: Config) -> tuple[dict[str, Any], list[Colour], list[str]]:
    """Turn a configuration into settings.

    Returns:
        settings by dotted name; the colours of the defect classes in order; a line a key: what became of it.
    Raises:
        ConfigError: what has no equivalent, or classes and colours that contradict one another.
    """
    optimizer = config.get("model.optimizer", "Adam")
    if optimizer != "Adam":
        raise ConfigError(f"[model] optimizer = {optimizer!r}: there is Adam only")
    settings: dict[str, Any] = {"model.name": "flexunet", "model.head": "multiclass", "data.mode": "resize"}
    settings["data.shape"] = [config.get(f"model.image_{side}", 512) for side in ("height", "width")]
    tiled, reduces = any(map(config.get, TILED)), bool(config.get("train.learning_rate_reducer"))
    for key, (setting, default, convert) in TRANSLATED.items():
        if (tiled or not key.startswith("tiledinfer.")) and (reduces or not key.startswith("train.reducer_")):
            settings[setting] = convert(config.get(key, default))
    if not (tiled or config.get("train.epoch_change_infer")):
        settings["training.previews"] = 0
    return settings, read_colours(config), [_tell(key, config, settings) for key in config]


def read_colours(config: Config) -> list[Colour]:
    """The colours of the defect classes, by class id; ConfigError where rgb_map does not tell them."""
    palette = config.get("mask.rgb_map")
    if not isinstance(palette, dict) or len(palette) < 2:
        raise ConfigError(f"[mask] rgb_map = {palette!r}: no colours of background and classes")
    numbers = {n: c for c, n in palette.items() if type(n) is int and isinstance(c, tuple)}
    order = [numbers.get(n, ()) for n in range(len(palette))]
    if () in order or order[0] != BLACK:
        raise ConfigError(f"[mask] rgb_map = {palette}: black is 0 and classes count from 1")
    n_classes = config.get("model.num_classes", len(palette))
    if n_classes != len(palette):
        raise ConfigError(f"[model] num_classes = {n_classes}, but rgb_map has {len(palette)}")
    return order[1:]


def compare_readme(config: Config, readme: str) -> list[str]:
    """Find `key = value` lines of a README that contradict the configuration."""
    said = []
    for key, text in re.findall(r"^[ \t]*(\w+)[ \t]*=([^;\n]+)", readme, re.MULTILINE):
        try:
            value = read_literal(text.strip())
        except ConfigError:
            continue
        real = [config[name] for name in config if name.endswith(f".{key}")]
        if real and value not in real:
            said.append(f"{key}: the README says {value}, the file {real[0]}")
    return list(dict.fromkeys(said))


def _tell(name: str, config: Config, settings: dict[str, Any]) -> str:
    section, _, key = name.partition(".")
    reason = _REASONS.get(name) or _REASONS.get(f"*.{key}")
    if section in AUGMENT:
        used = config.get("model.generator")
        reason = "data.augment has its own ranges" if used else "generator is off, so it is never used"
    if name in TRANSLATED:
        setting = TRANSLATED[name][0]
        reason = "nothing is tiled" if section == "tiledinfer" else "learning_rate_reducer is off"
        if setting in settings:
            return f"[{section}] {key}: {setting} = {settings[setting]}"
    if reason:
        return f"[{section}] {key}: not needed: {reason}"
    near = get_close_matches(key, [known.partition(".")[2] for known in (*TRANSLATED, *_REASONS)], 1, 0.7)
    hint = f"; did you mean {near[0]!r}? FlexUNet took its default" if near else ""
    return f"[{section}] {key}: UNKNOWN, not translated{hint}"


def _join_brackets(text: str) -> str:
    """Bring a literal that runs over several lines into one, as INI wants it."""
    lines: list[str] = []
    depth = 0
    for line in text.splitlines():
        bare = line.split(";")[0].strip()
        if depth > 0:
            lines[-1] += " " + bare
        else:
            lines.append(line)
        if not (depth == 0 and bare.startswith("[")):  # a section
            depth += sum(bare.count(b) for b in "([{") - sum(bare.count(b) for b in ")]}")
    return "\n".join(lines)
