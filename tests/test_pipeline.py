"""The make targets, on a tiny competition in a copy of the project (slow: they start kernels)."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest

from defectmill.images import read_image, write_image
from defectmill.labels import read_labels
from fake_competition import EXPERIMENT, write_fake_competition

FOLDS = EXPERIMENT.replace("n_folds: 2", "n_folds: 2, validation_fold: every").replace(
    "epochs: 1,", "epochs: 1, last_fit: 1, keep: last, schedule: {name: cosine},"
)
ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project, in a folder with a blank in its name, with an environment borrowed."""
    root = tmp_path_factory.mktemp("a project") / "my clone"
    for name in ("src", "notebooks"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    shutil.copytree(ROOT / ".ci", root / ".ci")
    (root / "notebooks" / "experiments" / "fake.yml").write_text(EXPERIMENT)
    write_fake_competition(root / "input" / "fake")
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (root / ".venv" / "bin" / "python").chmod(0o755)
    (root / ".venv" / ".installed").touch()
    return root


def make(project, *words, succeeds=True):
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(
        ["make", *words], cwd=project, capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
    return done.stdout + done.stderr


def changed_after(project, action):
    """Names of products whose time changes when `action` runs."""
    products = [*(project / "output" / "fake").glob("*.*"), project / "submissions" / "fake.csv"]
    before = {p: p.stat().st_mtime_ns for p in products}
    action()
    return {p.name for p in products if p.stat().st_mtime_ns != before[p]}


@pytest.fixture(scope="module")
def first_run(project):
    return make(project, "EXPERIMENT=fake")


def test_make_runs_all_steps_and_prints_the_score(project, first_run):
    scores = json.loads((project / "output" / "fake" / "scores.json").read_text())
    assert f"score {scores['score']:.4f} [" in first_run
    assert f"floor {scores['floor']:.4f}   gain {scores['gain']:+.4f}" in first_run
    for step in ("01_eda", "02_labels", "03_train", "04_predict", "05_report"):
        assert step in first_run
    assert "submissions/fake.csv" in first_run
    assert "<img" in (project / "output" / "fake" / "report.html").read_text()


def test_a_loss_that_is_nan_stops_make_with_one_line_and_leaves_no_network(project):
    text = EXPERIMENT.replace("epochs: 1,", "epochs: 1, learning_rate: 1.0e+30,")
    (project / "notebooks" / "experiments" / "diverges.yml").write_text(text)
    told = make(project, "train", "EXPERIMENT=diverges", succeeds=False)
    (line,) = (line for line in told.splitlines() if "TrainingError" in line)
    assert line.startswith(
        "TrainingError: epoch 1, step 2 of 2: the loss is nan, at a learning rate of 1e+30."
    )
    assert "WARNING: 2 training steps teach an untrained network next to nothing" in told
    assert list((project / "output" / "diverges").glob("**/*.keras")) == []


def test_all_experiments_stand_side_by_side(project, first_run):
    assert "output/index.html" in make(project, "site")
    page = (project / "output" / "index.html").read_text()
    assert '<a href="fake/report.html">fake</a>' in page


def test_the_history_has_a_line_an_epoch_in_the_executed_notebook(project, first_run):
    executed = (project / "output" / "fake" / "notebooks" / "03_train.ipynb").read_text()
    assert executed.count("epoch 1/1: ") == 1
    assert len(pd.read_csv(project / "output" / "fake" / "history.csv")) == 1


def test_every_fold_has_its_network_and_a_last_one_learns_from_the_test_part_too(project, first_run):
    (project / "notebooks" / "experiments" / "folds.yml").write_text(FOLDS)
    make(project, "EXPERIMENT=folds")
    output = project / "output" / "folds"
    notes = json.loads((output / "networks.json").read_text())
    images = pd.read_csv(output / "images.csv")
    assert {name: note["images"] for name, note in notes.items()} == {
        "fold_0": (images["fold"] != 0).sum(),
        "fold_1": (images["fold"] != 1).sum(),
        "last": len(images) + len(pd.read_csv(output / "test_images.csv")),
    }
    validated = read_labels(output / "validation.csv")
    assert set(validated["ImageId"]) == set(images["ImageId"][images["fold"] >= 0])
    assert pd.read_csv(output / "fold_1" / "history.csv")["val_loss"].notna().all()
    assert pd.read_csv(output / "history.csv")["val_loss"].isna().all()
    make(project, "infer", "EXPERIMENT=folds", "IMAGES=input/fake/test_images", "OUT=output/found")
    assert len(read_labels(project / "output" / "found" / "runs.csv")) == 2 * len(
        pd.read_csv(output / "test_images.csv")
    )
    # A training that was stopped after the first fold does not do it again.
    for path in (output / "networks.json", output / "fold_1" / "model.keras"):
        path.unlink()
    told = make(project, "train", "EXPERIMENT=folds")
    assert [name for name in notes if f"network {name} stands" in told] == ["fold_0", "last"]
    assert (output / "fold_1" / "model.keras").is_file()


def test_an_ablation_trains_what_differs_and_goes_on_where_it_stopped(project, first_run):
    arms = project / "notebooks" / "ablations" / "fake.yml"
    arms.write_text(
        "flips: {predict.flips: [vertical]}\nwide: {model.widths: [6, 8]}\nfrozen: {model.frozen: 3}\n"
    )
    told = make(project, "ablation", "EXPERIMENT=fake")
    assert "frozen is left out" in told
    table = pd.read_csv(project / "output" / "fake" / "ablation.csv")
    assert table["arm"].tolist() == ["baseline", "flips", "wide"]
    # Flips predict with the networks of the baseline; other widths are trained.
    assert told.count("03_train fake: Train") == 2
    assert "network fold_0 stands" in told
    again = make(project, "ablation", "EXPERIMENT=fake")
    assert "03_train" not in again
    assert "04_predict" not in again
    redone = changed_after(project, lambda: make(project, "EXPERIMENT=fake"))
    assert redone == {"report.html", "scores.json", "example.jpg"}
    assert "model.widths=[6, 8]" in (project / "output" / "fake" / "report.html").read_text()


def test_an_ensemble_is_an_experiment_that_predicts_by_the_networks_of_others(project, first_run):
    (project / "notebooks" / "experiments" / "other.yml").write_text(EXPERIMENT.replace("[4, 8]", "[6, 8]"))
    make(project, "EXPERIMENT=other")
    told = make(project, "ensemble", "EXPERIMENTS=fake other", "NAME=both")
    assert "03_train both" not in told
    output = project / "output" / "both"
    assert set(json.loads((output / "networks.json").read_text())) == {"fake fold_0", "other fold_0"}
    assert (output / "report.html").is_file()
    told = make(project, "infer", "EXPERIMENT=both", "IMAGES=input/fake/test_images", "OUT=output/both-found")
    assert "networks: 2" in told


def test_a_second_make_runs_nothing(project, first_run):
    assert changed_after(project, lambda: make(project, "EXPERIMENT=fake")) == set()


def edit(path):
    with path.open("a") as file:
        file.write("# edited\n")


def test_files_that_were_touched_but_say_the_same_redo_nothing(project, first_run):
    def touch_and_make():
        for path in [*(project / "src").rglob("*.py"), *(project / "notebooks").glob("*.ipynb")]:
            path.touch()
        told = make(project, "EXPERIMENT=fake")
        for step in ("01_eda", "02_labels", "04_predict", "05_report"):
            assert f"{step} fake: stands, nothing that it is made from has changed" in told

    assert changed_after(project, touch_and_make) == set()


def test_why_tells_what_would_be_done_again_and_nothing_is(project, first_run):
    told = make(project, "why", "EXPERIMENT=fake")
    assert [line.split(maxsplit=1)[1] for line in told.splitlines()] == ["up to date"] * 5
    before = (project / "output" / "fake" / "settings" / "train.json").read_text()
    told = make(project, "why", "EXPERIMENT=fake", "SET=training.steps=3")
    assert "03_train     fold_0 would be trained anew: training.steps 2 -> 3\n" in told
    assert (project / "output" / "fake" / "settings" / "train.json").read_text() == before
    assert changed_after(project, lambda: make(project, "EXPERIMENT=fake")) == set()


def test_no_training_that_nobody_asked_for_replaces_a_network(project, first_run):
    def predict():
        told = make(project, "predict", "EXPERIMENT=fake", "SET=training.steps=9", succeeds=False)
        assert 'trained otherwise (training.steps 2 -> 9): say SET="training.steps=2" again, or `make' in told

    assert changed_after(project, predict) == set()
    assert changed_after(project, lambda: make(project, "EXPERIMENT=fake")) == set()


@pytest.mark.parametrize(
    ("name", "words", "todo"),
    [
        ("labels.csv", ("predict",), "delete it, and `make labels EXPERIMENT=fake` makes it anew"),
        ("images.csv", ("report",), "delete it, and `make labels EXPERIMENT=fake` makes it anew"),
        ("model.keras", ("predict",), "put the right one there, or delete it: `make train EXPERIMENT=fake`"),
        (
            "thresholds.json",
            ("infer", "IMAGES=input/fake/test_images", "OUT=found"),
            "delete it, and `make predict EXPERIMENT=fake` makes it anew",
        ),
    ],
)
def test_an_edited_product_is_refused_and_made_again_where_it_was_deleted(
    project, first_run, name, words, todo
):
    path = project / "output" / "fake" / name
    whole = path.read_bytes()
    path.unlink()  # of a kept run's network it is a link
    path.write_bytes(whole[:-3])
    told = make(project, *words, "EXPERIMENT=fake", succeeds=False)
    assert todo in told
    path.unlink()
    make(project, "EXPERIMENT=fake")
    assert path.read_bytes() == whole


def test_a_signal_to_make_ends_the_training_at_once_and_the_next_make_goes_on(project, first_run):
    words = ["make", "train", "EXPERIMENT=fake", "SET=training.steps=9999"]
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, cwd=project, env=environment, stdout=pipe, text=True) as started:
        assert any("parameters" in line for line in started.stdout)
        below = psutil.Process(started.pid).children(recursive=True)
        assert len(below) >= 2  # Python and its kernel
        started.terminate()
        assert psutil.wait_procs(below, timeout=10)[1] == []
        assert "stopped by SIGTERM; the next make goes on from here" in started.stdout.read()
    assert changed_after(project, lambda: make(project, "EXPERIMENT=fake")) <= {"trained.json", "history.csv"}


def test_changed_plots_are_drawn_again_and_never_retrain(project, first_run):
    def edit_and_make():
        for name in ("figures", "pictures"):
            edit(project / "src" / "defectmill" / "viz" / f"{name}.py")
        make(project, "EXPERIMENT=fake")

    changed = changed_after(project, edit_and_make)
    assert {"eda.csv", "report.html"} <= changed
    assert not changed & {"model.keras", "images.csv", "fake.csv"}


def test_a_changed_audit_is_made_again_and_never_retrains(project, first_run):
    def edit_and_make():
        edit(project / "src" / "defectmill" / "curation" / "audit.py")
        make(project, "EXPERIMENT=fake")

    changed = changed_after(project, edit_and_make)
    assert {"audit.csv", "leaks.csv"} <= changed
    assert not changed & {"model.keras", "images.csv", "labels.csv", "fake.csv"}


def test_cost_is_told_and_nothing_is_made_for_it(project, first_run):
    said = []
    tell = lambda: said.append(make(project, "cost", "EXPERIMENT=fake", "SET=training.steps=7"))  # noqa: E731
    assert changed_after(project, tell) == set()
    assert "a step of 4, 7 steps" in said[0]
    assert changed_after(project, lambda: make(project, "EXPERIMENT=fake")) == set()


def test_a_changed_threshold_grid_never_retrains(project, first_run):
    run = lambda: make(project, "EXPERIMENT=fake", "SET=predict.thresholds=[0.4,0.6]")  # noqa: E731
    changed = changed_after(project, run)
    assert {"thresholds.json", "fake.csv", "report.html"} <= changed
    assert "model.keras" not in changed
    make(project, "EXPERIMENT=fake")


def test_going_back_to_the_settings_of_a_finished_run_brings_it_back(project, first_run):
    output, words = project / "output" / "fake", ("EXPERIMENT=fake", "SET=training.steps=3")
    make(project, "EXPERIMENT=fake")
    products = [output / "model.keras", output / "scores.json", project / "submissions" / "fake.csv"]
    before = [path.read_bytes() for path in products]
    assert "03_train fake: Train" in make(project, *words)
    assert products[0].read_bytes() != before[0]
    told = make(project, "EXPERIMENT=fake")
    for step in ("03_train", "04_predict", "05_report"):
        assert f"{step} fake: the same as in run " in told
    assert [path.read_bytes() for path in products] == before
    listed = make(project, "runs", "EXPERIMENT=fake").splitlines()
    assert [line.split()[0] for line in listed[1:-1]].count("*") == 1
    assert any(line.endswith("  training.steps=3") for line in listed)
    make(project, "site")
    assert "/curves.png" in (project / "output" / "index.html").read_text()


def test_a_picture_whose_pixels_changed_trains_anew(project, first_run):
    picture = project / "input" / "fake" / "train_images" / "bar_001.png"
    whole, image = picture.read_bytes(), read_image(picture)
    image[0, 0] ^= 1
    write_image(picture, image)
    images = (project / "output" / "fake" / "images.csv").read_bytes()
    assert "03_train fake: Train" in make(project, "train", "EXPERIMENT=fake")
    assert (project / "output" / "fake" / "images.csv").read_bytes() == images
    picture.write_bytes(whole)
    assert "03_train fake: the same as in run " in make(project, "EXPERIMENT=fake")


def test_infer_inspects_a_folder_from_where_make_is_called(project, first_run):
    (project / "my parts").mkdir()
    for image in (project / "input" / "fake" / "test_images").iterdir():
        shutil.copy(image, project / "my parts")
    (project / "my parts" / "broken.JPG").write_bytes(b"no picture")
    words = ("infer", "EXPERIMENT=fake", "IMAGES=my parts", "OUT=my findings", "FORMAT=coco,csv")
    said = make(project, *words, succeeds=False)
    assert re.search(r"^5 pictures: \d OK, \d with defects, 1 unreadable$", said, re.MULTILINE)
    assert "error: 1 of 5 pictures could not be read; " in said
    assert "look unlike" not in said  # they are like those of the training
    made = sorted(p.name for p in (project / "my findings").iterdir())
    assert made == ["coco", "defects.csv", "index.html", "masks", "overlays", "pictures.csv", "runs.csv"]
    runs = read_labels(project / "my findings" / "runs.csv")
    pd.testing.assert_frame_equal(runs, read_labels(project / "submissions" / "fake.csv"))
    assert (project / "output" / "fake" / "notebooks" / "06_infer.ipynb").is_file()
    assert changed_after(project, lambda: make(project, "EXPERIMENT=fake")) == set()


def test_the_labels_of_a_dataset_are_written_in_other_formats(project, first_run):
    said = make(project, "convert", "NAME=fake", "FORMAT=csv", "OUT=my labels")
    assert "pixels, exact to the pixel" in said
    labels = read_labels(project / "my labels" / "csv" / "test" / "labels.csv")
    pd.testing.assert_frame_equal(labels, read_labels(project / "input" / "fake" / "solution.csv"))
    said = make(project, "convert", "NAME=fake", succeeds=False)
    assert "say NAME=<dataset or experiment> FORMAT=<one or more of coco," in said


def test_a_copy_of_the_output_folder_is_all_that_an_inspection_in_python_needs(project, first_run, tmp_path):
    shutil.copytree(project / "output" / "fake", tmp_path / "model")
    code = (
        f"import defectmill; print(defectmill.inspect({str(project / 'input/fake/test_images')!r}, 'model'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("Inspection(4 pictures: "), done.stderr


def test_infer_says_what_is_missing_without_a_kernel(project, first_run):
    said = make(project, "infer", "EXPERIMENT=fake", succeeds=False)
    assert "say IMAGES=<folder of images> OUT=<folder to write>" in said
    said = make(project, "infer", "EXPERIMENT=sample", "IMAGES=x", "OUT=y", succeeds=False)
    assert "`make predict EXPERIMENT=sample` writes it" in said
    assert "Traceback" not in said


def test_a_failing_notebook_leaves_no_product_and_is_redone(project, first_run):
    notebook = project / "notebooks" / "05_report.ipynb"
    whole = notebook.read_text()
    notebook.write_text(whole.replace("figures.plot_scores(", "figures.no_such_plot("))
    said = make(project, "EXPERIMENT=fake", succeeds=False)
    assert "no_such_plot" in said
    assert "05_report.ipynb failed in cell" in said
    assert "score " not in said
    notebook.write_text(whole)
    assert "model.keras" not in changed_after(project, lambda: make(project, "EXPERIMENT=fake"))


def test_a_wrong_name_is_named_with_the_nearest(project):
    said = make(project, "EXPERIMENT=sampel", succeeds=False)
    assert "no experiment 'sampel'; did you mean 'sample'?" in said
    assert not (project / "output" / "sampel").exists()
    said = make(project, "EXPERIMENT=fake", "SET=training.epoch=3", succeeds=False)
    assert "unknown setting 'training.epoch'; did you mean 'training.epochs'?" in said
    said = make(project, "EXPERIMENT=fake", "SET=training.epochs=many", succeeds=False)
    assert "'training.epochs' = 'many'" in said
    make(project, "EXPERIMENT=fake")


@pytest.mark.parametrize("raw", ["", "no such folder"])
def test_a_real_dataset_says_that_it_needs_its_files(project, raw):
    said = make(project, "EXPERIMENT=magnetic-tile", f"RAW={raw}", succeeds=False)
    assert "RAW=" in said
    assert not (project / "input" / "magnetic-tile").exists()


def test_a_broken_label_stops_with_file_row_and_value(project, first_run):
    csv = project / "input" / "fake" / "train.csv"
    whole = csv.read_text()
    lines = whole.splitlines()
    lines[1] = lines[1].split(",")[0] + ",5 3 6 1"
    csv.write_text("\n".join(lines) + "\n")
    os.utime(project / "input" / "fake" / "dataset.json")
    said = make(project, "labels", "EXPERIMENT=fake", succeeds=False)
    assert "train.csv row 2" in said
    assert "overlaps" in said
    csv.write_text(whole)
    make(project, "EXPERIMENT=fake")


def test_a_class_without_pictures_and_a_set_without_clean_ones_run_through(project, first_run):
    """As aluminum: few pictures, each with a defect, one class in the test part only."""
    folder = project / "input" / "rare"
    write_fake_competition(folder, n_train=12, n_classes=3)
    table = pd.read_csv(folder / "train.csv", dtype=str, keep_default_na=False)
    absent = table["ImageId_ClassId"].str.endswith("_2")
    table.loc[absent, "EncodedPixels"] = ""
    defect = table["EncodedPixels"] != ""
    images = table["ImageId_ClassId"].str.rsplit("_", n=1).str[0]
    kept = images.isin(images[defect])
    for image in set(images[~kept]):
        (folder / "train_images" / image).unlink()
    table[kept].to_csv(folder / "train.csv", index=False)
    text = EXPERIMENT.replace("dataset: fake", "dataset: rare")
    (project / "notebooks" / "experiments" / "rare.yml").write_text(text)
    said = make(project, "EXPERIMENT=rare")
    assert "0 shown of 0 images without a defect" in said
    assert (project / "output" / "rare" / "report.html").is_file()


def test_a_dataset_without_test_images_runs_through_and_its_submission_is_a_header(project, first_run):
    folder = project / "input" / "untested"
    write_fake_competition(folder, layout="current", solution=False)
    shutil.rmtree(folder / "test_images")
    (folder / "sample_submission.csv").unlink()
    text = EXPERIMENT.replace("dataset: fake", "dataset: 'untested'  # no test part")
    (project / "notebooks" / "experiments" / "untested.yml").write_text(text)
    said = make(project, "EXPERIMENT=untested")
    assert "validation images; 0 test images without a solution.csv" in said
    submitted = (project / "submissions" / "untested.csv").read_text()
    assert submitted == "ImageId,EncodedPixels,ClassId\n"
