"""The steps that make runs: what it is told, the settings of each as files, networks, arms, inspections."""

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from defectmill import files
from defectmill.config import ConfigError, Experiment, load_experiment
from defectmill.dataset_info import read_yaml
from defectmill.products import history
from defectmill.products.inputs import hash_file
from defectmill.products.manifest import (
    TRAINED,
    check_network,
    check_tables,
    find_changes,
    read_note,
    tell_set,
)
from defectmill.products.provenance import describe_step, describe_training, hash_step, hash_training, step_of
from defectmill.products.stopped import RESUME, list_changes, refuse_changed
from defectmill.products.stored import load_predicted
from defectmill.products.why import tell_origins
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
            overrides[key] = read_yaml(value)
        except files.DefectmillError as error:
            raise ConfigError(f"SET {word!r}: not a value; it may hold no space") from error
    return overrides


def write_stage_settings(run: Experiment) -> None:
    """Write output/<experiment>/settings/<stage>.json, touching only files whose content changes.

    make rebuilds a stage when its file is newer: a new threshold grid never retrains. Last comes
    experiment.mk, which tells make the dataset, the networks, and whether there are members to ask.

    Raises:
        ConfigError: the file of the network's first weights is missing, which its training would find out
            after the labels only; or a name that make, or a shell, would not take for one word.
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
    folder = run.output / "settings"
    for stage, values in stages.items():
        files.write_if_changed(folder / f"{stage}.json", json.dumps(values, indent=1) + "\n")
    homes = [] if run.members else [run.network_folder(network) for network in run.networks]
    told = {
        "DATASET ?=": run.dataset,
        "NETWORKS :=": " ".join(f"{home.relative_to(files.ROOT).as_posix()}/model.keras" for home in homes),
        "MEMBERS :=": "FORCE" * bool(run.members),
    }
    with files.write_atomically(folder / "experiment.mk") as part:
        part.write_text("".join(f"{name} {value}\n" for name, value in told.items()))


def run_step(name: str, run: Experiment, overrides: dict, sources: Iterable[str]) -> None:
    """Run a notebook, unless its products stand or a kept run made them of the same.

    Args:
        sources: paths of what make holds its products to be made from.
    """
    sources = list(sources)
    made_from = hash_step(run, name, sources)
    if history.stands(run, name, made_from):
        print(f"{name} {run.name}: stands, nothing that it is made from has changed", flush=True)
        (run.output / "notebooks" / f"{name}.json").touch()
        return
    if name not in history.KEPT or not history.bring_back(run, name, made_from):
        note = {"made_from": made_from, "from": describe_step(run, name, sources)}
        run_notebook(name, run, {"overrides": overrides}, note)
    if name == "05_report":
        try:
            history.keep(run)
        except OSError as error:  # a full disk; the report stands
            print(f"  not kept in output/{run.name}/runs: {error}", flush=True)


def train(run: Experiment, overrides: dict, keeps: bool = False, is_fresh: bool = False) -> None:
    """Run 03 for each network of an experiment, and write networks.json: what each was trained on.

    Those stay that settings, labels, pictures and code would make again; those of a kept run come back.
    A training that was stopped goes on in its middle.

    Args:
        keeps: nobody asked for a training: only networks that are not there yet are trained.
        is_fresh: a training that was stopped is thrown away.
    Raises:
        ConfigError: a network would be replaced though nobody asked for it; or one, or the tables of 02, is
            not what was written; or see `refuse_changed`.
    """
    from defectmill.prediction.ensemble import read_members

    notes, is_new = read_members(run), False
    runs = [run.model_copy(update={"network": network}) for network in (() if run.members else run.networks)]
    to_train = [one for one in runs if not _has_trained(one)]
    for one in to_train if keeps else []:
        _refuse_training(one)
    for one in runs:
        if is_fresh:
            shutil.rmtree(one.training_folder / RESUME, ignore_errors=True)
        if one not in to_train:
            print(f"03_train {run.name}: network {one.network} stands")
            _bring_back_lost(one)
        else:
            is_new, made_from = True, hash_training(one)
            if not history.bring_back(one, "03_train", made_from):
                refuse_changed(one)
                values = {**overrides, "network": one.network}
                run_notebook("03_train", one, {"overrides": values}, {"made_from": made_from})
        if not list_changes(one):  # stopped after its last write, or one of a kept run
            shutil.rmtree(one.training_folder / RESUME, ignore_errors=True)
        notes[one.network] = read_note(one.training_folder / TRAINED)
    told = {name: {key: note[key] for key in note if key != "from"} for name, note in notes.items()}
    path, text = run.output / "networks.json", json.dumps(told, indent=1) + "\n"
    files.write_if_changed(path, text)
    if is_new:  # else the masks stand, whatever make was called for
        path.touch()


def _has_trained(run: Experiment) -> bool:
    """Whether the network of `run.network` is there as it would be trained now."""
    check_tables(run, run.network)
    folder = run.training_folder
    note, model, draft = read_note(folder / TRAINED), folder / "model.keras", folder / "checkpoint.keras"
    if draft.is_file() and note.get("sha256") == hash_file(draft):  # see `fit.keep_network`
        draft.replace(model)
    if not model.is_file():
        return False
    check_network(run, model)
    return note.get("made_from") == hash_training(run)


def _bring_back_lost(run: Experiment) -> None:
    """Bring back what was deleted beside a network that stands, where a kept run has it; else say so.

    Nothing but the training can make a history again.
    """
    note, home = run.output / "notebooks" / f"{step_of(run)}.json", run.training_folder
    products = read_note(note).get("products", history.NETWORK)
    lost = [name for name in products if not (home / name).is_file()]
    if not lost or run.variant:  # an arm takes from the baseline no more than it needs
        return
    kept, _, sources = history.find_kept(run, "03_train", hash_training(run)) or (home, note, {})
    is_same = TRAINED in sources and sources[TRAINED].read_bytes() == (home / TRAINED).read_bytes()
    if is_same and sources.keys() >= set(lost):
        made = (home / "model.keras").stat().st_mtime
        for name in lost:
            history.place(sources[name], home / name)
            os.utime(home / name, (made, made))  # what is newer than the step's note was written by hand
        print(f"  {', '.join(lost)}: brought back from run {kept.name}", flush=True)
    else:
        todo = f"no finished run has that; to train it anew, delete {home / 'model.keras'} and make again"
        print(f"WARNING: {home}: {', '.join(lost)} missing beside the network: {todo}", flush=True)


def _refuse_training(run: Experiment) -> None:
    """Refuse to replace a network that nobody asked to be trained anew; a kept run gives its own back."""
    model, note = run.training_folder / "model.keras", read_note(run.training_folder / TRAINED)
    # Without a note a training was begun since, and the network is set aside.
    if not (model.is_file() and note) or history.find_kept(run, "03_train", hash_training(run)):
        return
    then, now = note.get("from", {}), describe_training(run)
    settings = find_changes(now["settings"], then.get("settings", {}))
    is_set = then.get("files") == now["files"] and settings
    todo = f'say SET="{tell_set(settings)}" again, or ' if is_set else ""
    todo += f"`make train EXPERIMENT={run.name}` trains it anew, and sets this one aside"
    raise ConfigError(f"{model}: trained otherwise ({'; '.join(tell_origins(then, now)[:3])}): {todo}")


def clean(name: str, runs: bool = False) -> None:
    """Name and delete what an experiment produced; its finished runs too where `runs` says so.

    ConfigError: no name of an experiment.
    """
    files.check_name(name, "EXPERIMENT")
    folder, submission = files.ROOT / "output" / name, files.ROOT / "submissions" / f"{name}.csv"
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in [p for p in there if runs or p.name != "runs"] + [submission] * submission.is_file():
        print(f"  deletes {path.relative_to(files.ROOT)}{'/' * path.is_dir()}", flush=True)
        files.delete(path)
    if (folder / "runs").is_dir():
        print(f"kept: output/{name}/runs; make clean EXPERIMENT={name} RUNS=all deletes it")
    elif there and not folder.is_symlink():
        folder.rmdir()


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
            train(arm, values, is_fresh=is_fresh)
            run_notebook("04_predict", arm, {"overrides": values})
            ablation.note_run(arm)
        done[name] = arm
        table = ablation.make_table(done, arms)
        table.to_csv(run.output / "ablation.csv", index=False)
    print(table.round(3).to_string(index=False))


def infer(
    run: Experiment, overrides: dict, folders: tuple[str, str], formats: str = "", line: dict | None = None
) -> None:
    """Run 06 on a folder of images, then write what it found in other formats.

    What it cannot do is said before the kernel starts.

    Args:
        overrides: none: those that make last predicted with.
        folders: of the images and of the products; relative ones begin at the current folder.
        formats: see `convert.choose_formats`.
        line: of `exports.tell_line`.
    Raises:
        ConfigError: see `prediction.inspection.check_inspection`.
        DefectmillError: a picture could not be read, or none; the products are there, and say why of each.
    """
    from defectmill.prediction.inspection import SKIPPED, UNREADABLE, check_inspection
    from defectmill.running import convert

    chosen = convert.choose_formats(formats)
    if not overrides:
        run, overrides = load_predicted(run.name)
    if line:
        overrides = {**overrides, **line}
        run = load_experiment(run.name, overrides)
    images, out = (str(Path(folder).expanduser().absolute()) if folder else "" for folder in folders)
    source, target = check_inspection(run, images, out)
    convert.check_formats([name for name in chosen if name not in convert.OWN], target)
    run_notebook("06_infer", run, {"overrides": overrides, "images": str(source), "out": str(target)})
    if not any(target.glob("masks/*")):
        raise files.DefectmillError(f"{source}: no picture could be read; {target}/pictures.csv says why")
    tell_products([target, *convert.export_inspection(target, run.info, chosen)])
    print(f"  {target / 'index.html'}: open it in a browser")
    verdicts = pd.read_csv(target / "pictures.csv")["verdict"]
    if n_unread := int((verdicts == UNREADABLE).sum()):  # for whoever goes by the exit status
        n_all = int((verdicts != SKIPPED).sum())
        told = f"{n_unread} of {n_all} pictures could not be read; {target}/pictures.csv says why"
        raise files.DefectmillError(f"{told}, and has the others")
