"""Words of SET, settings of each stage that change only where it would, what make infer does around 06."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import defectmill
from defectmill.__main__ import main
from defectmill.config import ConfigError, load_experiment
from defectmill.files import DefectmillError
from defectmill.images import write_image
from defectmill.products import stored
from defectmill.products.manifest import note_predictions
from defectmill.running import stages
from defectmill.running.stages import parse_overrides, write_stage_settings
from fake_competition import make_info
from fake_maps import write_dark_finder


def test_set_of_make_reads_as_settings():
    assert parse_overrides("training.epochs=3  data.shape=[64,96] model.pretrained=false") == {
        "training.epochs": 3,
        "data.shape": [64, 96],
        "model.pretrained": False,
    }
    assert parse_overrides("") == {}


@pytest.mark.parametrize("word", ["epochs", "=3", "epochs=", "data.shape=[64,"])
def test_set_without_setting_or_value_is_refused(word):
    with pytest.raises(ConfigError, match=re.escape(repr(word))):
        parse_overrides(f"seed=1 {word}")


def stage_files(overrides: dict) -> dict[str, tuple[str, int]]:
    """Text and time of each stage's file."""
    run = load_experiment("mine", overrides)
    write_stage_settings(run)
    found = (run.output / "settings").glob("*.json")
    return {p.name: (p.read_text(), p.stat().st_mtime_ns) for p in found}


@pytest.mark.parametrize(
    ("setting", "value", "stages"),
    [
        ("labels.n_folds", 3, {"labels.json"}),
        ("labels.validation_fold", 1, {"labels.json", "train.json"}),
        ("labels.seed", 4, {"labels.json"}),
        ("training.epochs", 3, {"train.json"}),
        ("data.scale", 0.5, {"train.json"}),
        ("predict.thresholds", [0.5], {"predict.json"}),
        ("seed", 4, {"train.json"}),
        ("about", "words", set()),
    ],
)
def test_a_setting_reaches_its_stage_and_leaves_the_files_of_others_untouched(root, setting, value, stages):
    (root / "notebooks" / "experiments" / "mine.yml").write_text("dataset: sample\n")
    before, after = stage_files({}), stage_files({setting: value})
    assert before.keys() == {"labels.json", "train.json", "predict.json"}
    assert {name for name in before if before[name] != after[name]} == stages
    assert {name for name in before if before[name][0] != after[name][0]} == stages


def told_to_make(name: str, overrides: dict) -> str:
    run = load_experiment(name, overrides)
    write_stage_settings(run)
    return (run.output / "settings" / "experiment.mk").read_text()


@pytest.mark.parametrize(
    "text",
    [
        "dataset: my-parts\n",
        "dataset: my-parts\r\nseed: 3\r\n",
        "dataset: my-parts  # of 2023\n",
        'dataset: "my-parts"\r\n',
        "about: x\n\"dataset\" : 'my-parts'  # mine\n",
        "\ufeffdataset: my-parts",
        "{dataset: my-parts, seed: 3}\n",
        '{\n "about": "dataset: other",\n "dataset": "my-parts",\n "seed": 3\n}\n',
        "---\n# dataset: other\nabout: |\n  dataset: other\ndataset: my-parts\n",
    ],
)
def test_make_is_told_the_dataset_as_yaml_has_it(root, text):
    (root / "notebooks" / "experiments" / "parts.yml").write_bytes(text.encode())
    for name in ("my-parts", "my-parts-pseudo"):
        (root / "input" / name).mkdir()
        (root / "input" / name / "dataset.json").write_text(make_info(name).model_dump_json())
    assert told_to_make("parts", {}) == (
        "DATASET ?= my-parts\nNETWORKS := output/parts/model.keras\nMEMBERS := \n"
    )
    assert told_to_make("parts", {"dataset": "my-parts-pseudo"}).startswith("DATASET ?= my-parts-pseudo\n")
    folds = {"labels.validation_fold": "every", "labels.n_folds": 2, "training.keep": "last"}
    folds |= {"training.schedule": {"name": "cosine"}}
    homes = "output/parts/fold_0/model.keras output/parts/fold_1/model.keras"
    assert f"NETWORKS := {homes}\n" in told_to_make("parts", folds)
    (root / "notebooks" / "experiments" / "both.yml").write_text("dataset: my-parts\nmembers: [parts]\n")
    assert told_to_make("both", {}) == "DATASET ?= my-parts\nNETWORKS := \nMEMBERS := FORCE\n"


@pytest.mark.parametrize("name", ["a b", "$(shell touch pwned)", "../../x", "-rf", ".hidden"])
def test_a_dataset_whose_name_make_would_not_take_for_one_word_is_refused(root, name):
    (root / "notebooks" / "experiments" / "mine.yml").write_text("dataset: sample\n")
    with pytest.raises(DefectmillError, match=r"setting 'dataset'=.*: one word of letters"):
        load_experiment("mine", {"dataset": name})


def test_a_setting_that_set_gives_twice_is_refused():
    with pytest.raises(ConfigError, match=r"SET gives 'seed' twice: 1 and 2"):
        parse_overrides("seed=1 training.epochs=3 seed=2")


def test_a_missing_file_of_weights_is_told_before_anything_is_made(root):
    text = "dataset: sample\nmodel: {name: backbone_unet, weights: own.weights.h5}\n"
    (root / "notebooks" / "experiments" / "mine.yml").write_text(text)
    run = load_experiment("mine")
    with pytest.raises(ConfigError, match=r"mine: setting 'model.weights': .*/own\.weights\.h5 is missing"):
        write_stage_settings(run)
    assert not run.output.exists()
    (root / "own.weights.h5").touch()
    write_stage_settings(run)
    assert (run.output / "settings" / "train.json").is_file()


def test_clean_names_what_it_deletes_and_keeps_finished_runs_unless_asked(root, capsys):
    output, submission = root / "output" / "mine", root / "submissions" / "mine.csv"
    for path in (output / "runs" / "1-a" / "x", output / "my found" / "x", output / ".hidden", submission):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (output / "far").symlink_to(root / "notebooks")
    (root / "output" / "other").mkdir()
    main(["clean", "mine"])
    assert capsys.readouterr().out.splitlines() == [
        "  deletes output/mine/.hidden",
        "  deletes output/mine/far/",
        "  deletes output/mine/my found/",
        "  deletes submissions/mine.csv",
        "kept: output/mine/runs; make clean EXPERIMENT=mine RUNS=all deletes it",
    ]
    assert [path.name for path in output.iterdir()] == ["runs"]
    main(["clean", "mine", "--runs"])
    assert not output.exists()
    main(["clean", "mine"])
    assert (root / "output" / "other").is_dir()
    assert (root / "notebooks" / "experiments").is_dir()  # a link goes, not what it leads to


@pytest.mark.parametrize("name", ["..", "../..", "", "a/b", "a b", ".hidden"])
def test_clean_deletes_nothing_on_a_wrong_name(root, name):
    (root / "output" / "a").mkdir(parents=True)
    with pytest.raises(DefectmillError, match="one word of letters, digits, dots"):
        main(["clean", name])
    assert (root / "output" / "a").is_dir()


@pytest.fixture
def asked(root, monkeypatch):
    """Parameters that 06 was run with, in place of a kernel; the current folder is a place in the project."""
    write_dark_finder(root)
    (root / "place").mkdir()
    monkeypatch.chdir(root / "place")
    seen: list[dict] = []

    def run_notebook(name, run, values):
        seen.append({"name": name, "flips": run.predict.flips, **values})
        defectmill.inspect(values["images"], run.name).save(values["out"])

    monkeypatch.setattr(stages, "run_notebook", run_notebook)
    return seen


def write_picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((12, 20), 255, np.uint8)
    picture[2:5, 3:9] = 0
    write_image(path, picture)


def test_relative_folders_begin_where_the_command_is_given(asked, root, capsys):
    write_picture(root / "place" / "parts" / "a.png")
    main(["infer", "fake", "--images=parts", "--out=found"])
    place = root / "place"
    assert asked == [
        {
            "name": "06_infer",
            "flips": (),
            "overrides": {},
            "images": str(place / "parts"),
            "out": str(place / "found"),
        }
    ]
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "  wrote place/found",
        f"  {place / 'found' / 'index.html'}: open it in a browser",
    ]


def test_settings_are_those_that_make_last_predicted_with_unless_others_are_given(asked, root):
    write_picture(root / "parts" / "a.png")
    note_predictions(load_experiment("fake", given := {"predict.flips": ["vertical"]}), given)
    main(["infer", "fake", "--images=../parts", "--out=found"])
    main(["infer", "fake", "--images=../parts", "--out=found", "--set=predict.flips=[both]"])
    assert [one["flips"] for one in asked] == [("vertical",), ("both",)]
    assert [one["overrides"] for one in asked] == [{"predict.flips": [f]} for f in ("vertical", "both")]


def test_region_and_scale_of_the_command_line_stand_above_the_files(asked, root):
    write_picture(root / "parts" / "a.png")
    yml = root / "notebooks" / "experiments" / "fake.yml"
    yml.write_text(f"{yml.read_text()}line: {{mm_per_pixel: 2}}\n")
    (root / "place" / "left.json").write_text("[[[0, 0], [4, 0], [4, 11], [0, 11]]]")
    words = ["infer", "fake", "--images=../parts", "--out=found"]
    main([*words, "--roi=left.json", "--mm-per-pixel=0.5"])
    given = {"line.roi": str(root / "place" / "left.json"), "line.mm_per_pixel": "0.5"}
    assert asked[0]["overrides"] == given
    yml.write_text(yml.read_text().replace("mm_per_pixel: 2", "roi: none.png"))
    with pytest.raises(DefectmillError, match=r"none\.png: no such file"):
        main(words)
    with pytest.raises(ConfigError, match=r"setting 'line\.mm_per_pixel' = '0,5'"):
        main([*words, "--roi=left.json", "--mm-per-pixel=0,5"])


def test_formats_lie_beside_the_products_and_their_losses_are_told(asked, root, capsys):
    write_picture(root / "parts" / "a.png")
    main(["infer", "fake", "--images=../parts", "--out=found", "--format=csv,coco"])
    out = root / "place" / "found"
    assert sorted(p.name for p in (out / "coco").iterdir()) == ["annotations.json", "losses.csv"]
    assert (out / "runs.csv").is_file()
    assert not (out / "csv").exists()
    assert "  coco: 1 mask of 18 pixels, exact to the pixel\n" in capsys.readouterr().out


def test_a_format_that_cannot_be_written_stops_before_anything_runs(asked, root):
    write_picture(root / "parts" / "a.png")
    with pytest.raises(ConfigError, match="no format 'yol'; did you mean 'yolo'"):
        main(["infer", "fake", "--images=../parts", "--out=found", "--format=yol"])
    (root / "place" / "found" / "coco").mkdir(parents=True)
    with pytest.raises(ConfigError, match="found/coco is there and not written by this command"):
        main(["infer", "fake", "--images=../parts", "--out=found", "--format=coco"])
    assert asked == []


def test_a_folder_of_which_nothing_can_be_read_is_an_error_that_says_where_the_reasons_are(asked, root):
    (root / "parts").mkdir()
    (root / "parts" / "a.png").write_bytes(b"no")
    with pytest.raises(
        DefectmillError, match=r"parts: no picture could be read; .*found/pictures\.csv says why"
    ):
        main(["infer", "fake", "--images=../parts", "--out=found", "--format=coco"])
    assert (
        "a.png,unreadable,not a readable image (2 bytes)" in (root / "place/found/pictures.csv").read_text()
    )


def test_pictures_that_cannot_be_read_lose_no_other_and_the_exit_status_tells(asked, root, capsys):
    parts = root / "parts"
    write_picture(parts / "a.png")
    write_picture(parts / "inner" / "b.png")
    os.mkfifo(parts / "pipe.png")
    (parts / "device.png").symlink_to("/dev/zero")
    (parts / "gone.png").symlink_to(parts / "nothing")
    (parts / "torn.jpg").write_bytes(b"\xff\xd8\xff")
    (parts / "line\nbreak.png").write_bytes(b"no")
    Path(os.fsdecode(os.fsencode(parts) + b"/\xe9.png")).write_bytes(b"no")
    found = root / "place" / "found"
    with pytest.raises(DefectmillError, match=r"^4 of 6 pictures could not be read; .*found/pictures\.csv"):
        main(["infer", "fake", "--images=../parts", "--out=found", "--format=coco"])
    table = pd.read_csv(found / "pictures.csv").set_index("ImageId")
    assert table["verdict"].to_dict() == {
        "a.png": "defect",
        "inner/b.png": "defect",
        "line\\nbreak.png": "skipped",
        "\\udce9.png": "skipped",
        **dict.fromkeys(["device.png", "gone.png", "pipe.png", "torn.jpg"], "unreadable"),
    }
    assert table.loc["pipe.png", "reason"] == "cannot be read (it is a pipe or device)"
    assert sorted(p.name for p in (found / "masks").iterdir()) == ["a.png", "inner_b.png"]
    assert (found / "coco" / "annotations.json").is_file()
    assert "torn.jpg" in (found / "index.html").read_text()


def test_settings_that_are_damaged_are_told(asked, root, tmp_path):
    folder = tmp_path / "copy"
    (folder / "settings").mkdir(parents=True)
    for text in ("[]", "{", "[" * 5000, '{"dataset": 1}', "\xff"):
        for stage in ("labels", "train", "predict"):
            (folder / "settings" / f"{stage}.json").write_bytes(text.encode("latin-1"))
        with pytest.raises(ConfigError, match=r"copy: holds no settings that can be used"):
            stored.read_output(folder)
