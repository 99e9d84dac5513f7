"""Finished runs: kept, listed, brought back. In place of notebooks, a function writes products."""

import json
import os
import time

import numpy as np
import pytest

from defectmill.__main__ import main
from defectmill.config import ConfigError, load_experiment
from defectmill.products import history, provenance, stopped
from defectmill.running import stages
from defectmill.running.notebooks import list_written

PREDICTED = {"thresholds.json": "{}", "validation.csv": "v", "masks/a.png": "mask", "submission.csv": "s"}
SOURCES = [
    "notebooks/04_predict.ipynb",
    "output/mine/networks.json",
    "output/mine/settings/inputs/test_images",
]


@pytest.fixture
def mine(root, monkeypatch):
    """An experiment whose labels are made; what its notebooks were run for is listed in `ran`."""
    (root / "notebooks" / "experiments" / "mine.yml").write_text("dataset: sample\ntraining: {epochs: 4}\n")
    for name in ("03_train", "04_predict"):
        (root / "notebooks" / f"{name}.ipynb").write_text("{}")
    output = root / "output" / "mine"
    (output / "settings" / "inputs").mkdir(parents=True)
    for part in ("train.csv", "test_images"):
        (output / "settings" / "inputs" / part).write_text(f"{part}: 1 files\n")
    for name in ("images.csv", "labels.csv"):
        (output / name).write_text("ImageId,fold\na,0\n")
    np.savez(output / "scans.npz", **{"train ImageId": ["a"], "train digest": ["1"]})
    ran = []

    def run_notebook(name, run, values, made_from=None):
        """Write what a notebook would; the text of each product tells the epochs and thresholds."""
        text = f"{run.training.epochs} {run.predict.thresholds}"
        home = run.training_folder if name == "03_train" else run.output
        step = provenance.step_of(run) if name == "03_train" else name
        products = {"03_train": {"model.keras": "weights", "history.csv": "h", "curves.png": "c"}}
        products |= {"04_predict": PREDICTED, "05_report": {"report.html": "r"}}
        written = {product: f"{kind} {text}" for product, kind in products[name].items()}
        if name == "05_report":
            written["scores.json"] = json.dumps({"score": 0.9, "micro_dice": run.training.epochs / 10})
        if name == "03_train":
            written["trained.json"] = json.dumps(
                {"made_from": provenance.hash_training(run), "from": provenance.describe_training(run)}
            )
            history.set_aside(run)  # as `make_callbacks` does
        for product, content in written.items():
            (home / product).parent.mkdir(parents=True, exist_ok=True)
            (home / product).unlink(missing_ok=True)
            (home / product).write_text(content)
        if name == "04_predict":
            run.submission.parent.mkdir(exist_ok=True)
            (home / "submission.csv").replace(run.submission)
        note = {"seconds": 60.0, "peak_mb": 1, "made_from": "", **(made_from or {})}
        note["products"] = sorted(written.keys() - {"submission.csv"})
        (run.output / "notebooks").mkdir(exist_ok=True)
        (run.output / "notebooks" / f"{step}.json").write_text(json.dumps(note))
        (run.output / "notebooks" / f"{step}.ipynb").write_text(f"executed {text}")
        ran.append(step)

    monkeypatch.setattr(stages, "run_notebook", run_notebook)
    return root, output, ran


def make(ran, **settings):
    """Run 03 to 05 as make would, and give the steps that ran and the experiment."""
    ran.clear()
    run = load_experiment("mine", {key.replace("__", "."): value for key, value in settings.items()})
    stages.train(run, {})
    stages.run_step("04_predict", run, {}, SOURCES)
    stages.run_step("05_report", run, {}, [*SOURCES, "submissions/mine.csv"])
    return list(ran), run


def names(output):
    return [folder.name for folder in history.list_kept(output)]


def test_a_finished_run_is_kept_with_its_products_and_settings(mine):
    _, output, ran = mine
    _, run = make(ran, training__epochs=7, predict__thresholds=[0.4, 0.6])
    assert names(output) == ["1-epochs-7-thresholds-0-4-0-6"]
    kept = output / "runs" / names(output)[0]
    found = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
    notebooks = {
        f"notebooks/{step}.{end}"
        for step in ("03_train", "04_predict", "05_report")
        for end in ("json", "ipynb")
    }
    assert found == notebooks | PREDICTED.keys() | {
        "model.keras", "history.csv", "curves.png", "trained.json", "networks.json",
        "scores.json", "report.html", "settings.json", "difference.json", "run.json",
    }  # fmt: skip
    assert json.loads((kept / "settings.json").read_text()) == run.model_dump(mode="json")
    assert json.loads((kept / "difference.json").read_text()) == {
        "training.epochs": 7,
        "predict.thresholds": [0.4, 0.6],
    }
    assert json.loads((kept / "run.json").read_text())["seconds"] == 180


def check_kept(output):
    """The runs of 4 and of 7 epochs have their own products still."""
    for folder, epochs in zip(history.list_kept(output), (4, 7), strict=True):
        for name in (
            "model.keras",
            "history.csv",
            "validation.csv",
            "masks/a.png",
            "report.html",
            "submission.csv",
        ):
            assert f" {epochs} (" in (folder / name).read_text(), name


def test_other_settings_write_over_nothing_of_a_kept_run_and_going_back_trains_nothing(mine, capsys):
    root, output, ran = mine
    make(ran)
    (output / "masks" / "of another test part.png").write_text("x")
    steps, _ = make(ran, training__epochs=7)
    assert steps == ["03_train", "04_predict", "05_report"]
    assert names(output) == ["1-as-the-file", "2-epochs-7"]
    check_kept(output)
    capsys.readouterr()
    (output / "masks" / "of another test part.png").write_text("x")
    (output / "checkpoint.keras").write_text("of a training that was stopped")
    assert make(ran)[0] == []
    for name in ("model.keras", "history.csv", "masks/a.png", "report.html", "notebooks/04_predict.ipynb"):
        assert " 4 (" in (output / name).read_text(), name
    assert " 4 (" in (root / "submissions" / "mine.csv").read_text()
    assert [path.name for path in (output / "masks").iterdir()] == ["a.png"]
    assert not (output / "checkpoint.keras").exists()
    assert names(output) == ["1-as-the-file", "2-epochs-7"]
    said = capsys.readouterr().out
    for step in ("03_train", "04_predict", "05_report"):
        assert f"{step} mine: the same as in run 1-as-the-file, brought back\n" in said
    assert make(ran, training__epochs=7)[0] == []
    check_kept(output)


def test_other_thresholds_alone_keep_the_network_and_make_another_run(mine):
    _, output, ran = mine
    make(ran)
    steps, _ = make(ran, predict__thresholds=[0.4])
    assert steps == ["04_predict", "05_report"]
    assert names(output) == ["1-as-the-file", "2-thresholds-0-4"]
    models = [folder / "model.keras" for folder in history.list_kept(output)]
    assert os.path.samefile(*models)  # linked: it takes its room once
    assert not os.path.samefile(*(folder / "history.csv" for folder in history.list_kept(output)))


@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ("notebooks/04_predict.ipynb", ["04_predict", "05_report"]),
        ("output/mine/settings/inputs/test_images", ["04_predict", "05_report"]),
        ("notebooks/03_train.ipynb", ["03_train", "04_predict", "05_report"]),
        ("output/mine/labels.csv", ["03_train", "04_predict", "05_report"]),
        ("output/mine/runs/1-as-the-file/validation.csv", ["04_predict"]),  # deleted there
    ],
)
def test_what_code_or_input_would_make_otherwise_is_not_brought_back(mine, change, steps):
    root, _, ran = mine
    make(ran)
    make(ran, training__epochs=7)
    if "runs" in change:
        (root / change).unlink()
    else:
        (root / change).write_text("ImageId,fold\na,1\n")
    assert make(ran)[0] == steps


def test_products_that_were_written_by_hand_are_kept_but_never_brought_back(mine):
    _, output, ran = mine
    _, run = make(ran)
    later = time.time() + 5
    os.utime(output / "validation.csv", (later, later))  # a live notebook wrote it
    history.keep(run)
    make(ran, training__epochs=7)
    assert make(ran)[0] == ["04_predict"]


def test_a_network_of_which_no_note_tells_is_kept_but_never_brought_back(mine):
    _, output, ran = mine
    _, run = make(ran)
    (output / "notebooks" / "03_train.json").unlink()
    history.keep(run)
    kept = output / "runs" / "1-as-the-file"
    assert (kept / "model.keras").read_text() == (output / "model.keras").read_text()
    make(ran, training__epochs=7)
    assert make(ran)[0] == ["03_train"]  # the same weights, so what they predict is the same


def test_predictions_of_other_weights_are_not_brought_back_though_they_come_from_the_same(mine):
    _, output, ran = mine
    make(ran)
    make(ran, training__epochs=7)
    (output / "runs" / "1-as-the-file" / "model.keras").write_text("rounded otherwise")
    assert make(ran)[0] == ["04_predict", "05_report"]


def test_a_full_disk_leaves_the_report_and_says_so(mine, monkeypatch, capsys):
    _, output, ran = mine

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history, "place", fail)
    make(ran)
    assert "not kept in output/mine/runs: [Errno 28] No space left on device" in capsys.readouterr().out
    assert (output / "report.html").is_file()
    assert list((output / "runs").iterdir()) == []


def test_the_same_run_with_another_report_is_kept_anew_under_its_number(mine):
    _, output, ran = mine
    make(ran)
    note = output / "runs" / "1-as-the-file" / "run.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "date": "2020-01-01 00:00"}))
    run = load_experiment("mine")
    (output / "report.html").write_text("drawn anew")
    history.keep(run)
    assert names(output) == ["1-as-the-file"]
    assert (note.parent / "report.html").read_text() == "drawn anew"
    assert json.loads(note.read_text())["date"] == "2020-01-01 00:00"


def test_a_run_on_other_labels_is_another_run_of_the_same_settings(mine):
    _, output, ran = mine
    make(ran)
    (output / "labels.csv").write_text("ImageId,fold\na,1\n")
    make(ran)
    assert names(output) == ["1-as-the-file", "2-as-the-file"]


def test_another_submission_of_the_same_networks_is_another_run(mine):
    _, output, ran = mine
    _, run = make(ran)
    run.submission.write_text("by other code")
    history.keep(run)
    assert names(output) == ["1-as-the-file", "2-as-the-file"]


def test_networks_of_folds_come_back_into_their_folders(mine):
    root, output, ran = mine
    (root / "notebooks" / "experiments" / "mine.yml").write_text(
        "dataset: sample\nlabels: {n_folds: 2}\ntraining: {epochs: 4, keep: last, schedule: {name: cosine}}\n"
    )
    assert make(ran, labels__validation_fold="every")[0][:2] == ["03_train_fold_0", "03_train_fold_1"]
    # The same network, where it is the only one, lies in the experiment's own folder.
    assert "03_train" not in make(ran, labels__validation_fold=1)[0]
    assert (output / "model.keras").is_file()
    assert make(ran, labels__validation_fold="every")[0] == []
    assert (output / "fold_1" / "model.keras").is_file()


def test_an_ensemble_is_kept_without_networks_of_its_own(mine):
    root, output, ran = mine
    make(ran)
    (root / "notebooks" / "experiments" / "other.yml").write_text("dataset: sample\n")
    (root / "notebooks" / "experiments" / "both.yml").write_text("dataset: sample\nmembers: [mine, other]\n")
    both = load_experiment("both")
    both.output.mkdir()
    (both.output / "networks.json").write_text("{}")

    def predict():
        ran.clear()
        for name in ("04_predict", "05_report"):
            stages.run_step(name, both, {}, SOURCES)
        return list(ran)

    assert predict() == ["04_predict", "05_report"]
    assert predict() == []
    assert names(both.output) == ["1-as-the-file"]
    (output / "model.keras").unlink()  # a link in the kept run of a member, too
    (output / "model.keras").write_text("trained anew")
    assert predict() == ["04_predict", "05_report"]


def test_a_step_stands_where_its_sources_only_were_touched_and_its_products_are_its_own(mine, capsys):
    root, output, ran = mine
    _, run = make(ran)
    note = output / "notebooks" / "04_predict.json"
    os.utime(note, (0, 0))
    for path in (output / "thresholds.json", output / "validation.csv", output / "masks" / "a.png"):
        os.utime(path, (0, 0))
    os.utime(run.submission, (0, 0))
    os.utime(root / SOURCES[0])
    capsys.readouterr()
    ran.clear()
    stages.run_step("04_predict", run, {}, SOURCES)
    assert capsys.readouterr().out == "04_predict mine: stands, nothing that it is made from has changed\n"
    assert ran == []
    assert note.stat().st_mtime > 0  # make takes it as made now
    for change in (lambda: (output / "thresholds.json").write_text("edited"), run.submission.unlink):
        change()
        capsys.readouterr()
        stages.run_step("04_predict", run, {}, SOURCES)
        assert "04_predict mine: the same as in run 1-as-the-file, brought back" in capsys.readouterr().out
        assert run.submission.is_file()


def test_a_network_without_a_finished_run_is_set_aside_and_comes_back(mine, capsys):
    _, output, ran = mine

    def train(**settings):
        ran.clear()
        run = load_experiment("mine", {key.replace("__", "."): value for key, value in settings.items()})
        stages.train(run, {})
        return list(ran)

    assert train(training__epochs=5) == ["03_train"]
    assert train(training__epochs=6) == ["03_train"]
    (folder,) = (output / "runs" / "networks").iterdir()
    assert " 5 (" in (folder / "model.keras").read_text()
    assert f"  the network of before is kept: output/mine/runs/networks/{folder.name}; its" in (
        capsys.readouterr().out
    )
    assert train(training__epochs=5) == []  # and that of 6 epochs is set aside now
    assert " 5 (" in (output / "history.csv").read_text()
    assert train(training__epochs=6) == []
    assert len(list((output / "runs" / "networks").iterdir())) == 2
    assert names(output) == []  # they are no finished runs


def test_a_network_that_a_finished_run_has_is_not_set_aside(mine):
    _, output, ran = mine
    _, run = make(ran)
    history.set_aside(run)
    assert not (output / "runs" / "networks").exists()


def test_what_trains_without_being_asked_replaces_no_network(mine):
    _, output, ran = mine
    make(ran, training__epochs=7)
    run = load_experiment("mine", {"training.epochs": 9})
    before = (output / "model.keras").read_text()
    said = r"mine/model\.keras: trained otherwise \(training\.epochs 7 -> 9\): say SET=\"training.epochs=7"
    ran.clear()
    with pytest.raises(ConfigError, match=said):
        stages.train(run, {}, keeps=True)
    assert ran == []
    assert (output / "model.keras").read_text() == before
    make(ran)
    stages.train(load_experiment("mine", {"training.epochs": 7}), {}, keeps=True)  # a kept run has it
    assert (output / "model.keras").read_text() == before
    (output / "trained.json").unlink()  # a training was begun and stopped
    (output / "runs" / "2-as-the-file" / "trained.json").unlink()
    ran.clear()
    stages.train(load_experiment("mine"), {}, keeps=True)
    assert ran == ["03_train"]


def test_a_crash_between_a_network_and_its_note_is_put_right(mine):
    _, output, ran = mine
    _, run = make(ran)
    note = json.loads((output / "trained.json").read_text())
    (output / "checkpoint.keras").write_text("weights of the new")
    note["sha256"] = history.hash_file(output / "checkpoint.keras")
    (output / "trained.json").write_text(json.dumps(note))
    ran.clear()
    stages.train(run, {}, keeps=True)
    assert ran == []
    assert (output / "model.keras").read_text() == "weights of the new"
    (output / "model.keras").unlink()
    (output / "model.keras").write_text("of another experiment")
    with pytest.raises(
        ConfigError, match=r"model\.keras: not the network that trained\.json beside it tells"
    ):
        stages.train(run, {})


def test_networks_json_stays_as_it_is_where_no_network_was_trained(mine):
    _, output, ran = mine
    _, run = make(ran)
    before = (output / "networks.json").stat().st_mtime_ns
    stages.train(run, {})
    assert (output / "networks.json").stat().st_mtime_ns == before
    (output / "model.keras").unlink()
    stages.train(run, {})
    assert (output / "networks.json").stat().st_mtime_ns > before


def test_a_history_that_was_deleted_comes_back_from_the_finished_run_and_nothing_trains(mine, capsys):
    root, output, ran = mine
    (root / "notebooks" / "experiments" / "mine.yml").write_text(
        "dataset: sample\nlabels: {n_folds: 2}\ntraining: {epochs: 4, keep: last, schedule: {name: cosine}}\n"
    )
    every = {"labels__validation_fold": "every"}
    make(ran, **every)
    before = (output / "fold_1" / "history.csv").read_text()
    for name in ("history.csv", "curves.png"):
        (output / "fold_1" / name).unlink()
    capsys.readouterr()
    assert make(ran, **every)[0] == []
    assert (
        "  curves.png, history.csv: brought back from run 1-validation-fold-every\n"
        in capsys.readouterr().out
    )
    assert (output / "fold_1" / "history.csv").read_text() == before
    assert (output / "fold_1" / "curves.png").is_file()
    # It counts as made by make: the run that is kept anew gives it back again.
    _, run = make(ran, **every)
    history.keep(run)
    (output / "fold_1" / "model.keras").unlink()
    assert make(ran, **every)[0] == []


def test_a_history_that_no_finished_run_has_is_told_to_be_missing(mine, capsys):
    _, output, ran = mine
    _, run = make(ran)
    (output / "history.csv").unlink()
    (output / "runs" / "1-as-the-file" / "history.csv").unlink()
    for _ in range(2):
        capsys.readouterr()
        stages.train(run, {})
        told = (
            f"WARNING: {output}: history.csv missing beside the network: no finished run has that; to train"
        )
        assert told in capsys.readouterr().out
    # Of another network, though made of the same, it is not taken.
    (output / "runs" / "1-as-the-file" / "history.csv").write_text("h")
    note = json.loads((output / "trained.json").read_text())
    (output / "trained.json").write_text(json.dumps({**note, "steps": 7}))
    stages.train(run, {})
    assert told in capsys.readouterr().out
    assert not (output / "history.csv").exists()


def stop_training(output, **settings):
    """What a training leaves that was stopped after a step."""
    run = load_experiment("mine", settings)
    folder = output / stopped.RESUME
    folder.mkdir(parents=True)
    (folder / stopped.MADE_FROM).write_text(json.dumps(stopped.describe_going_on(run)))
    (folder / "000000-0000001.state").write_bytes(b"weights")
    return folder


def test_a_stopped_training_of_other_settings_is_refused_before_a_kernel_starts_or_thrown_away(mine):
    _, output, ran = mine
    left, run = stop_training(output, **{"training.steps": 5}), load_experiment("mine")
    with pytest.raises(ConfigError, match=r"training\.steps 5 -> 0\. Bring that back, or .* FRESH=1"):
        stages.train(run, {})
    assert ran == []
    assert (left / "000000-0000001.state").is_file()
    stages.train(run, {}, is_fresh=True)
    assert ran == ["03_train"]
    assert not left.exists()


def test_a_stopped_training_waits_while_a_finished_run_is_brought_back(mine):
    _, output, ran = mine
    make(ran, training__epochs=7)
    make(ran)
    left = stop_training(output, **{"training.steps": 5})
    make(ran, training__epochs=7)
    assert ran == []
    assert left.is_dir()
    make(ran, training__epochs=7)  # as it stands
    assert left.is_dir()


def test_the_stopped_training_of_a_fold_is_its_own_and_finished_folds_stand(mine, capsys):
    _, output, ran = mine
    folds = {"labels.validation_fold": "every", "labels.n_folds": 3, "training.keep": "last"}
    folds |= {"training.schedule.name": "constant"}
    run = load_experiment("mine", folds)
    stages.train(run, {})
    for product in ("model.keras", "trained.json"):
        (output / "fold_1" / product).unlink()
    left = stop_training(output / "fold_1", **folds, network="fold_1", seed=3)
    ran.clear()
    capsys.readouterr()
    with pytest.raises(ConfigError, match=r"fold_1/resume: .* otherwise: seed 3 -> 0\. Bring"):
        stages.train(run, {})
    assert capsys.readouterr().out == "03_train mine: network fold_0 stands\n"
    stages.train(run, {}, is_fresh=True)
    assert ran == ["03_train_fold_1"]
    assert not left.exists()


def test_what_a_training_left_that_was_stopped_after_its_last_write_goes(mine):
    _, output, ran = mine
    make(ran)
    left = stop_training(output)
    make(ran)
    assert ran == []
    assert not left.exists()


def test_a_half_kept_run_and_folders_of_other_names_are_none(mine):
    _, output, ran = mine
    make(ran)
    for name in ("2-epochs-7.part", "3-epochs-8", "notes"):
        (output / "runs" / name).mkdir()
    (output / "runs" / "2-epochs-7.part" / "run.json").write_text("{}")
    assert names(output) == ["1-as-the-file"]
    make(ran, training__epochs=7)
    assert names(output) == ["1-as-the-file", "4-epochs-7"]


def test_runs_are_ordered_by_number(mine):
    _, output, ran = mine
    make(ran)
    for number in range(2, 11):
        (output / "runs" / "1-as-the-file").rename(output / "runs" / f"{number}-x")
        make(ran, predict__thresholds=[number / 20])
        (output / "runs" / f"{number}-x").rename(output / "runs" / "1-as-the-file")
    assert [name.partition("-")[0] for name in names(output)] == [str(n) for n in (1, *range(3, 12))]


def test_settings_that_differ_are_said_as_set_takes_them(mine):
    run = load_experiment("mine", {"model.name": "flexunet", "predict.flips": ["vertical"], "about": "words"})
    found = history.find_difference("mine", run.model_dump(mode="json"))
    assert found.pop("model.name") == "flexunet"
    assert found.pop("predict.flips") == ["vertical"]
    assert set(found) == {
        f"model.{key}" for key in ("filters", "kernel", "levels", "dilation", "activation", "rescale")
    }
    loss = load_experiment("mine", {"training.loss": {"dice": 1.0}})
    assert history.find_difference("mine", loss.model_dump(mode="json")) == {"training.loss": {"dice": 1.0}}


def test_runs_are_listed_with_what_differs_and_a_star_before_the_current_one(mine, capsys):
    _, output, ran = mine
    make(ran)
    make(ran, training__epochs=7, predict__flips=["vertical"])
    (output / "settings" / "inputs" / "train.csv").write_text("train.csv: another")
    capsys.readouterr()
    main(["runs", "mine"])
    head, first, second, hint = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "date", "Dice", "score", "minutes", "settings"]
    assert first.startswith("  1-as-the-file ")
    assert first.endswith(
        "   0.400   0.9000        3  as in the experiment's file; made with another train.csv"
    )
    assert second.startswith("* 2-epochs-7-flips-vertical ")
    assert '  training.epochs=7 predict.flips=["vertical"]; made with' in second
    assert hint == 'A run comes back by its settings: make EXPERIMENT=mine SET="..."'
    # What was begun since is no run yet.
    (output / "trained.json").unlink()
    main(["runs", "mine"])
    assert "*" not in capsys.readouterr().out
    make(ran)
    assert [run.is_current for run in history.read_runs("mine")] == [True, False]
    make(ran, predict__calibrate=False)  # which changes no product here
    assert [run.is_current for run in history.read_runs("mine")] == [False, False, True]


def test_no_runs_are_told_with_what_to_do(mine):
    with pytest.raises(ConfigError, match="mine has no finished run here: make EXPERIMENT=mine"):
        main(["runs", "mine"])
    with pytest.raises(ConfigError, match="no experiment 'mime'; did you mean 'mine'"):
        main(["runs", "mime"])


def test_the_products_of_a_notebook_are_what_was_written_since_it_began(tmp_path):
    for name, age in (
        ("new.csv", 0),
        ("masks/a.png", 0),
        ("old.csv", 60),
        ("runs/1/x.csv", 0),
        ("settings/s", 0),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert list_written(tmp_path, 1000) == ["masks/a.png", "new.csv"]
