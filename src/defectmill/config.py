"""Experiments: every setting of a run, read from notebooks/experiments/<name>.yml.

A file holds overrides of the defaults in settings.py and nothing else. A setting that is unknown, or that
does not apply to the chosen network, data mode or schedule, is an error.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field, ValidationError, model_validator

from defectmill import files
from defectmill.dataset_info import DatasetInfo, find_input, load_dataset_info, nearest, read_yaml
from defectmill.files import DefectmillError
from defectmill.settings import (
    CropData,
    Data,
    DataSettings,
    FlexunetSettings,
    LabelSettings,
    LineSettings,
    Model,
    ModelSettings,
    PredictSettings,
    ReduceSchedule,
    ScheduleSettings,
    Seed,
    Settings,
    TrainingSettings,
    UnetSettings,
)

# Settings of earlier versions -> what is written now.
RENAMED = {
    "labels.held_out": "labels.validation_fold",
    "training.encoder_rate": "model.encoder_rate",
    "training.warmup_steps": "training.schedule.warmup_steps",
    "training.reducer_factor": "training.schedule.factor",
    "training.reducer_patience": "training.schedule.patience",
    "training.loss.flat_dice": "training.loss.batch_dice",
    "predict.tile": "predict.tiles.shape",
    "predict.overlap": "predict.tiles.overlap",
}
# Section -> the setting that chooses its class, and the class of each choice; the first is the default.
CHOICES: dict[str, tuple[str, dict[str, type[Settings]]]] = {
    section: (choice, {kind.model_fields[choice].default: kind for kind in get_args(union)})
    for section, choice, union in (
        ("data", "mode", DataSettings),
        ("model", "name", ModelSettings),
        ("training.schedule", "name", ScheduleSettings),
    )
}
LARGEST_STEP = 2**28  # pixels of a batch: its features alone take more than 50 GB
UNNAMED = ("[key]", "constrained-", "literal[")  # what pydantic adds to the place of an error


class ConfigError(DefectmillError):
    """A wrong experiment, setting, value or dataset, named, with the nearest right one."""


class Experiment(Settings):
    """A named set of settings, and what is known of its dataset."""

    name: str
    dataset: str
    about: str = ""
    cost: str = ""
    score: str = ""
    seed: Seed = 0
    labels: LabelSettings = LabelSettings()
    data: Data = CropData()
    model: Model = UnetSettings()
    training: TrainingSettings = TrainingSettings()
    predict: PredictSettings = PredictSettings()
    line: Annotated[LineSettings, Field(exclude=True)] = LineSettings()  # no product comes from it
    members: tuple[str, ...] = ()  # of an ensemble, which averages their probabilities and trains nothing
    variant: str = ""  # make ablation gives the name of the arm that runs: it writes into a folder of its own
    network: str = ""  # make train gives the name of the network to train, where there are several
    info: Annotated[DatasetInfo, Field(exclude=True)]

    @model_validator(mode="after")
    def _settings_fit(self) -> "Experiment":
        data, training, stride = self.data, self.training, self.stride
        side = min(*data.shape, *(self.predict.tiles.shape if self.predict.tiles else ()))
        pixels = training.batch_size * data.shape[0] * data.shape[1]
        each_once = not isinstance(data, CropData) and not training.steps
        chooses = training.keep == "best" or isinstance(training.schedule, ReduceSchedule)
        others = [name for name in list_experiments() if name != self.name] if self.members else []
        unknown = next((name for name in self.members if name not in others), "")
        networks = ", ".join(self.networks)
        for is_wrong, why in (
            (self.network not in ("", *self.networks), f"network {self.network!r} is none of {networks}"),
            (
                self.labels.validation_fold == "every" and not self.members and chooses,
                "labels.validation_fold=every measures each fold, so none may choose an epoch or a rate: set "
                "training.keep=last and training.schedule.name=cosine",
            ),
            (
                each_once and "defect_share" in data.model_fields_set,
                "setting 'data.defect_share' does not apply where whole images are shown once each; "
                "it applies with data.mode=crop or training.steps > 0",
            ),
            (
                data.balance == "part" and not training.steps,
                "setting 'data.balance' does not apply where images are shown once each: set training.steps",
            ),
            (unknown, f"setting 'members': no other experiment {unknown!r}{nearest(unknown, others)}"),
            (
                self.model.head == "multiclass" and not self.info.exclusive,
                f"classes of {self.dataset} may overlap: set model.head=multilabel",
            ),
            (
                2 * side <= stride and not self.members,
                f"data.shape and predict.tiles.shape: {side} pixels are too few where {self.model.name} has "
                f"one deepest feature for {stride}: give more than {stride // 2}, or fewer levels",
            ),
            (
                pixels > LARGEST_STEP,
                f"setting 'training.batch_size' = {training.batch_size}: with data.shape={[*data.shape]} "
                f"a step has {pixels:,} pixels, too many for any machine: at most {LARGEST_STEP:,}",
            ),
        ):
            if is_wrong:
                raise ValueError(why)
        return self

    @property
    def stride(self) -> int:
        """Pixels of an image, along a side, for one of the network's deepest features."""
        if isinstance(self.model, UnetSettings):
            return 2 ** len(self.model.up_widths)
        return 2 ** (self.model.levels - 1) if isinstance(self.model, FlexunetSettings) else 32

    def load_parts(self) -> list["Experiment"]:
        """The experiments whose networks predict: the members, or itself."""
        return [load_experiment(name) for name in self.members] or [self]

    @property
    def fold_networks(self) -> tuple[str, ...]:
        """Names of the networks that leave a fold out: fold_0, ..."""
        fold = self.labels.validation_fold
        return tuple(f"fold_{n}" for n in (range(self.labels.n_folds) if fold == "every" else [fold]))

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of all networks, in the order in which they are trained: last is that of the last fit."""
        return (*self.fold_networks, "last") if self.training.last_fit else self.fold_networks

    def test_networks(self) -> tuple[str, ...]:
        """Names of those that predict the test images: none that may have seen their labels."""
        return self.fold_networks if (self.input / "solution.csv").is_file() else self.networks

    @property
    def infer_networks(self) -> tuple[str, ...]:
        """Names of those that predict one's own images."""
        return self.networks[-1:] if self.training.last_fit else self.fold_networks

    def network_folder(self, network: str) -> Path:
        """Where a network and its training are kept: beside all else, if `make infer` uses this one alone."""
        return self.output if self.infer_networks == (network,) else self.output / network

    @property
    def training_folder(self) -> Path:
        """Where 03 writes: the folder of `network`."""
        return self.network_folder(self.network or self.networks[0])

    @property
    def input(self) -> Path:
        return find_input(self.dataset)

    @property
    def output(self) -> Path:
        folder = files.ROOT / "output" / self.name
        return folder / "ablation" / self.variant if self.variant else folder

    @property
    def submission(self) -> Path:
        if self.variant:
            return self.output / "predicted.csv"
        return files.ROOT / "submissions" / f"{self.name}.csv"

    def require(self, path: Path, target: str) -> Path:
        """Give `path` back where it exists; else ConfigError names the make target that writes it."""
        if not path.exists():
            raise ConfigError(f"{path} is missing: `make {target} EXPERIMENT={self.name}` writes it")
        return path


def list_experiments() -> list[str]:
    """Names of all experiment files, the project's and those that the package brings, sorted."""
    folders = (home / "notebooks" / "experiments" for home in (files.ROOT, files.PACKAGE))
    return sorted({path.stem for folder in folders for path in folder.glob("*.yml")})


def load_experiment(name: str, overrides: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment.

    Args:
        name: of a file in notebooks/experiments, without .yml.
        overrides: settings over the file's, nested or dotted: {"training.epochs": 3}. Where one chooses
            another network, data mode or schedule, the file's settings of the former choice are dropped.
    Raises:
        ConfigError: unknown experiment, setting or dataset (with the nearest right name), a setting that
            does not apply or has another name now, or a value of the wrong type.
    """
    path = files.find_own(f"experiments/{name}.yml")
    if name not in list_experiments():
        raise ConfigError(f"no experiment {name!r}{nearest(name, list_experiments())}")
    try:
        values = read_yaml(files.read_text(path)) or {}
    except DefectmillError as error:
        raise ConfigError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}, not settings")
    file_keys = set(values)
    flat, choices = flatten(overrides or {}), [f"{s}.{choice}" for s, (choice, _) in CHOICES.items()]
    for key in sorted(flat, key=lambda key: key not in choices):  # what a choice drops is set after it
        set_value(values, key, flat[key])
    for given in (values.keys() & {"name", "info"}) | (file_keys & {"network", "variant"}):
        by = "the file's name, its dataset or a command gives it"
        raise ConfigError(f"{path}: setting {given!r} = {values[given]!r}: {by}")
    if not isinstance(values.get("dataset"), str):
        raise ConfigError(f"{path}: setting 'dataset' = {values.get('dataset')!r}: not the name of a dataset")
    try:
        info = load_dataset_info(files.check_name(values["dataset"], "setting 'dataset'"))
        return Experiment.model_validate({**values, "name": name, "info": info})
    except ValidationError as error:
        raise ConfigError(f"{path}: {'; '.join(map(_explain, error.errors()))}") from error
    except DefectmillError as error:
        raise ConfigError(f"{path}: {error}") from error


def set_value(values: dict, key: str, value: Any) -> None:
    """Set a dotted setting; another choice drops the settings of the former one."""
    *sections, last = key.split(".")
    for part in sections:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"setting {key!r}: {part!r} has no settings inside")
    choice, options = CHOICES.get(".".join(sections), ("", {}))
    if options and last == choice and value != values.get(choice, next(iter(options))):
        shared = set.intersection(*(set(kind.model_fields) for kind in options.values()))
        for other in values.keys() - shared:
            del values[other]
    values[last] = value


def flatten(overrides: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """{dotted name: value} of nested settings; a loss is one value."""
    flat: dict[str, Any] = {}
    for key, value in overrides.items():
        name = f"{above}{key}"
        is_section = isinstance(value, Mapping) and name != "training.loss"  # a loss is given as a whole
        flat |= flatten(value, f"{name}.") if is_section else {name: value}
    return flat


def _explain(offence: Any) -> str:
    """Say what is wrong with a setting, and what is right, from one error of pydantic's."""
    place, chosen = [str(part) for part in offence["loc"] if not str(part).startswith(UNNAMED)], ""
    for section in CHOICES:
        depth = section.count(".") + 1
        if ".".join(place[:depth]) == section and len(place) > depth:
            chosen = place.pop(depth)  # pydantic names the chosen class there
    name = ".".join(place)
    if offence["type"] == "value_error":  # settings that do not fit one another
        return f"{f'setting {name!r}: ' * bool(name)}{offence['ctx']['error']}"
    above, _, last = name.rpartition(".")
    if name in RENAMED:
        return f"setting {name!r} is now {RENAMED[name]!r}"
    if offence["type"] == "extra_forbidden":
        choice, options = CHOICES.get(above, ("", {}))
        fits = [f"{above}.{choice}={option}" for option, kind in options.items() if last in kind.model_fields]
        if not fits:
            return f"unknown setting {name!r}{nearest(name, dict.fromkeys(_all_settings()))}"
        fitting = " and ".join(fits)
        return f"setting {name!r} does not apply to {above}.{choice}={chosen}; it applies to {fitting}"
    choice, options = CHOICES.get(name, ("", {}))
    if offence["type"] == "union_tag_invalid":
        given = offence["ctx"]["tag"]
        return f"setting {f'{name}.{choice}'!r} = {given!r}{nearest(given, options)}"
    if options and not isinstance(offence["input"], dict):
        return f"setting {name!r} = {offence['input']!r} is a section: {name}.{choice} chooses it"
    given, context = offence["input"], offence.get("ctx", {})
    names = re.findall(r"(?<=['(|])\w+(?=['|)])", context.get("expected", context.get("pattern", "")))
    told = nearest(given, names) if names and isinstance(given, str) else f": {offence['msg']}"
    return f"setting {name!r} = {given!r}{told}"


def _all_settings(section: type[Settings] = Experiment, above: str = "") -> list[str]:
    """Dotted names of all sections and settings, those of every choice among them."""
    names: list[str] = []
    for key, field in section.model_fields.items():
        names.append(f"{above}{key}")
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, Settings):
                names += _all_settings(kind, f"{above}{key}.")
    return names
