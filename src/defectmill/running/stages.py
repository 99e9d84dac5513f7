"""The steps that make runs: what it is told, the settings of each as files, networks, arms, inspections."""

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from defectmill import files
from defectmill.config import ConfigError, Experiment, list_experiments, load_experiment
from defectmill.dataset_info import load_dataset_info, nearest, read_dataset_info
from defectmill.evaluation.provenance import RESUME, hash_training, list_changes, refuse_changed
from defectmill.running.history import bring_back
from defectmill.running.notebooks import run_notebook, tell_products


def parse_overrides(text: str) -> dict[str, Any]:
    """Read make's SET: "training.epochs=3 data.shape=[64,96]", settings separated by spaces.

    ConfigError: a word without setting or value, a value that is none, a setting given twice.
    """
    overrides: dict[str, Any] = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not (key and equals and value):
            raise ConfigError(f"SET takes setting=value, not {word!r}")
        if key in overrides:
            raise ConfigError(f"SET gives {key!r} twice: {overrides[key]!r} and {value}")
        try:
            overrides[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"SET {word!r}: not a value; it may hold no space") from error
    return overrides


def write_stage_settings(run: Experiment) -> None:
    """Write output/<experiment>/settings/<stage>.json, touching only files whose content changes.

    make rebuilds a stage when its file is newer: a new threshold grid never retrains. ConfigError: the file
    of the network's first weights is missing, which its training would find out after the labels only.
    """
    weights = files.ROOT / str(getattr(run.model, "weights", "none"))
    if weights.name != "none" and not weights.is_file():
        raise ConfigError(
            f"{run.name}: setting 'model.weights': {weights} is missing; set it to a file, or none"
        )
    shared = {"dataset": run.dataset, "seed": run.seed}
    settings = run.model_dump(mode="json")
    stages = {
        "labels": {"dataset": run.dataset, "labels": settings["labels"]},
        "train": {
            **shared,
            "validation_fold": run.labels.validation_fold,
            **{key: settings[key] for key in ("data", "model", "training", "members")},
        },
        "predict": settings["predict"],
    }
    for stage, values in stages.items():
        path = run.output / "settings" / f"{stage}.json"
        files.write_if_changed(path, json.dumps(values, indent=1) + "\n")


class StoredExperiment(Experiment):
    """An experiment as the files in its output folder tell it, wherever that folder lies."""

    folder: Annotated[Path, Field(exclude=True)]

    @property
    def output(self) -> Path:
        return self.folder

    def load_parts(self) -> list[Experiment]:
        return [read_output(self.folder.with_name(name)) for name in self.members] or [self]


def load_trained(model: str | Path) -> Experiment:
    """Load an experiment with the settings that its networks were last made with.

    Args:
        model: its name, or the path of its output folder or of a copy of that.
    Raises:
        ConfigError: neither, or a folder that lacks its settings.
    """
    if str(model) in list_experiments():
        return load_experiment(str(model), parse_overrides(read_last_set(load_experiment(str(model)))))
    folder = Path(model).expanduser().absolute()
    if not folder.is_dir():
        raise ConfigError(f"{model}: no folder, and no experiment{nearest(str(model), list_experiments())}")
    return read_output(folder)


def read_last_set(run: Experiment) -> str:
    """Read the SET that make last predicted with; "" where it has not."""
    kept = run.output / "settings" / "predicted.txt"
    return kept.read_text().strip() if kept.is_file() else ""


def read_output(folder: Path) -> StoredExperiment:
    """Read an experiment from the settings in its output folder; see `load_trained`."""
    values: dict = {}
    try:
        for stage in ("labels", "train", "predict"):
            found = json.loads((folder / "settings" / f"{stage}.json").read_text())
            values |= {"predict": found} if stage == "predict" else found
        own = folder / "dataset.json"
        info = read_dataset_info(own) if own.is_file() else load_dataset_info(values["dataset"])
        del values["validation_fold"], values["data"]["defect_share"]  # in labels; of training alone
        return StoredExperiment.model_validate(
            {**values, "name": folder.name, "info": info, "folder": folder}
        )
    except (OSError, KeyError, ValueError) as error:
        if isinstance(error, files.DefectmillError):
            raise
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        todo = f"copy all of output/<experiment>, or make it anew: `make predict EXPERIMENT={folder.name}`"
        raise ConfigError(f"{folder}: holds no settings that can be used ({why}): {todo}") from error


def train(run: Experiment, overrides: dict, is_fresh: bool = False) -> None:
    """Run 03 for each network of an experiment, and write networks.json: what each was trained on.

    Those stay that settings, labels, pictures and code would make again, and those of a kept run are brought
    back. A training that was stopped goes on in its middle, or is thrown away where `is_fresh`.

    Raises:
        ConfigError: one that was stopped would go on otherwise, see `refuse_changed`.
    """
    from defectmill.prediction.ensemble import read_members

    notes, is_new = read_members(run), False
    for network in () if run.members else run.networks:
        one = run.model_copy(update={"network": network})
        if is_fresh:
            shutil.rmtree(one.training_folder / RESUME, ignore_errors=True)
        stamp = one.training_folder / "trained.json"
        note = json.loads(stamp.read_text()) if stamp.is_file() else {}
        has_network, made_from = (one.training_folder / "model.keras").is_file(), hash_training(one)
        if has_network and note.get("made_from") == made_from:
            print(f"03_train {run.name}: network {network} stands")
        else:
            is_new = True
            if not bring_back(one, "03_train", made_from):
                refuse_changed(one)
                run_notebook("03_train", one, {"overrides": {**overrides, "network": network}}, made_from)
            note = json.loads(stamp.read_text())
        if not list_changes(one):  # stopped after its last write, or one of a kept run
            shutil.rmtree(one.training_folder / RESUME, ignore_errors=True)
        notes[network] = note
    path, text = run.output / "networks.json", json.dumps(notes, indent=1) + "\n"
    files.write_if_changed(path, text)
    if is_new:  # else the masks stand, whatever make was called for
        path.touch()


def run_ablation(run: Experiment, overrides: dict, is_fresh: bool = False) -> None:
    """Run the arms of an ablation that have not run as they would now, and write ablation.csv after each."""
    from defectmill.evaluation import ablation

    arms, done = ablation.read_arms(run.name), dict[str, Experiment]()
    for name, changes in arms.items():
        values = {**overrides, **changes, "variant": name, "training.last_fit": 0, "training.previews": 0}
        try:
            arm = load_experiment(run.name, values)
        except ConfigError as error:
            if "does not apply" not in str(error):
                raise
            print(f"{name} is left out: {error}")
            continue
        if name == ablation.BASELINE:
            run_notebook("02_labels", arm, {"overrides": values})
        else:
            ablation.copy_from(done[ablation.BASELINE], arm)
        if not ablation.has_run(arm):
            train(arm, values, is_fresh)
            run_notebook("04_predict", arm, {"overrides": values})
            ablation.note_run(arm)
        done[name] = arm
        table = ablation.make_table(done, arms)
        table.to_csv(run.output / "ablation.csv", index=False)
    print(table.round(3).to_string(index=False))


def infer(run: Experiment, overrides: dict, folders: tuple[str, str], formats: str = "") -> None:
    """Run 06 on a folder of images, then write what it found in other formats.

    What it cannot do is said before the kernel starts.

    Args:
        overrides: none: those that make last predicted with.
        folders: of the images and of the products; relative ones begin at the current folder.
        formats: see `convert.choose_formats`.
    Raises:
        ConfigError: see `prediction.inspection.check_inspection`.
        DefectmillError: no picture could be read; the products say why of each.
    """
    from defectmill.prediction.inspection import check_inspection
    from defectmill.running import convert

    chosen = convert.choose_formats(formats)
    if not overrides and (overrides := parse_overrides(read_last_set(run))):
        run = load_experiment(run.name, overrides)
    images, out = (str(Path(folder).expanduser().absolute()) if folder else "" for folder in folders)
    source, target = check_inspection(run, images, out)
    convert.check_formats([name for name in chosen if name not in convert.OWN], target)
    run_notebook("06_infer", run, {"overrides": overrides, "images": str(source), "out": str(target)})
    if not any(target.glob("masks/*")):
        raise files.DefectmillError(f"{source}: no picture could be read; {target}/pictures.csv says why")
    tell_products([target, *convert.export_inspection(target, run.info, chosen)])
    print(f"  {target / 'index.html'}: open it in a browser")
