"""Inspections in one call: folders, files and arrays; models by name and by folder; table, hint, saving."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import defectmill
from defectmill.config import ConfigError, load_experiment
from defectmill.curation import drift
from defectmill.images import ImageError, read_image, write_image
from defectmill.labels import read_labels
from defectmill.prediction import inspection
from defectmill.products.manifest import note_predictions
from defectmill.products.stored import load_trained, read_output
from defectmill.running.inspections import format_table
from defectmill.running.stages import write_stage_settings
from fake_maps import write_dark_finder


@pytest.fixture
def project(root, monkeypatch):
    """The finder of dark pixels, in a project whose folder is the current one."""
    write_dark_finder(root)
    monkeypatch.chdir(root)
    return root


def draw(shape: tuple[int, ...], *boxes: tuple[slice, slice]) -> np.ndarray:
    """White, with black boxes."""
    image = np.full(shape, 255, np.uint8)
    for box in boxes:
        image[box] = 0
    return image


def write_parts(folder: Path) -> None:
    """A part with two defects, in a folder below a clean one, and a broken file."""
    (folder / "left").mkdir(parents=True)
    write_image(folder / "left" / "dent.png", draw((12, 20), np.s_[2:5, 3:9], np.s_[8:10, 15:20]))
    write_image(folder / "clean.png", draw((5, 8)))
    (folder / "broken.jpg").write_bytes(b"no")


def test_importing_the_package_loads_neither_tensorflow_nor_pandas():
    code = "import sys, defectmill; defectmill.inspect; "
    code += "assert not {'tensorflow', 'keras', 'pandas', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_gives_tables_and_masks_and_is_saved(project, tmp_path_factory):
    write_parts(project / "parts")
    found = defectmill.inspect("parts", "fake")
    assert repr(found) == "Inspection(3 pictures: 1 OK, 1 with defects, 1 unreadable)"
    assert found.pictures["ImageId"].tolist() == ["broken.jpg", "clean.png", "left/dent.png"]
    assert found.pictures["verdict"].tolist() == ["unreadable", "OK", "defect"]
    assert found.pictures["area"].tolist()[1:] == [0, 28]
    assert found.defects["area"].tolist() == [18, 10]
    expected = np.zeros((12, 20, 2), np.uint8)
    expected[2:5, 3:9, 0] = expected[8:10, 15:20, 0] = 1
    assert list(found.masks) == ["clean.png", "left/dent.png"]
    np.testing.assert_array_equal(found.masks["left/dent.png"], expected)
    assert found.masks["clean.png"].shape == (5, 8, 2)
    out = found.save(tmp_path_factory.mktemp("elsewhere") / "found")
    assert sorted(p.name for p in out.iterdir()) == sorted(inspection.PRODUCTS)
    assert read_image(out / "masks" / "left_dent.png").shape == (12, 20, 1)
    page = (out / "index.html").read_text()
    assert "Inspection: parts" in page
    assert 'href="overlays/left_dent.jpg"' in page
    assert page.index("left/dent.png") < page.index("broken.jpg") < page.index("clean.png")


def test_products_are_never_saved_over_the_pictures_or_what_is_not_theirs(project):
    write_parts(project / "parts")
    found = defectmill.inspect("parts", "fake")
    with pytest.raises(ConfigError, match="over the images"):
        found.save("parts")
    (project / "mine").mkdir()
    (project / "mine" / "index.html").write_text("mine")
    with pytest.raises(ConfigError, match=r"index\.html, which no inspection wrote"):
        found.save("mine")
    assert found.save("parts/found") == project / "parts" / "found"


def test_files_are_named_below_the_folder_that_they_share(project):
    write_parts(project / "parts")
    one = defectmill.inspect("parts/clean.png", "fake")
    assert one.pictures["ImageId"].tolist() == ["clean.png"]
    paths = [project / "parts" / "left" / "dent.png", "parts/clean.png", "parts/none.png", "parts/clean.png"]
    some = defectmill.inspect(paths, "fake")
    assert some.pictures["ImageId"].tolist() == ["clean.png", "left/dent.png", "none.png"]
    assert some.pictures["reason"].tolist()[2] == "no such file"


def test_arrays_give_what_files_of_them_give(project):
    grey, colour = draw((12, 20), np.s_[2:5, 3:9]), draw((9, 7, 3), np.s_[4:6, 1:3])
    found = defectmill.inspect([grey, colour, grey[:, :, None]], "fake")
    assert found.pictures["ImageId"].tolist() == [f"picture_{n}.png" for n in range(3)]
    assert found.pictures["area"].tolist() == [18, 4, 18]
    write_image(project / "one.png", grey)
    np.testing.assert_array_equal(
        found.masks["picture_0.png"], defectmill.inspect("one.png", "fake").masks["one.png"]
    )
    out = found.save("found")
    assert read_image(out / "overlays" / "picture_2.jpg", 3).shape == (12, 20, 3)
    assert "Inspection: 3 pictures" in (out / "index.html").read_text()


def test_many_arrays_are_named_in_their_order(project):
    found = defectmill.inspect([draw((5, 8))] * 11, "fake")
    assert found.pictures["ImageId"].tolist()[:2] == ["picture_00.png", "picture_01.png"]


@pytest.mark.parametrize(
    ("images", "why"),
    [
        ([np.zeros((4, 6))], r"picture 0: .* uint8 is wanted, not float64 of shape \(4, 6\)"),
        ([np.zeros((4, 6), np.uint8), np.zeros((4, 6, 4), np.uint8)], r"picture 1: .*\(4, 6, 4\)"),
        ([np.zeros((0, 6), np.uint8)], r"shape \(0, 6\)"),
        ([np.zeros((4, 6), np.uint8), None], "picture 1: a path or an array is wanted, .* not NoneType"),
        (3, "a list of arrays"),
        (np.zeros((4, 6), np.uint8), "a list of arrays"),
        ([], "with a picture in it"),
    ],
)
def test_what_is_no_picture_is_refused(project, images, why):
    with pytest.raises(ImageError, match=why):
        defectmill.inspect(images, "fake")


def test_a_folder_without_pictures_and_an_unknown_model_are_refused(project):
    (project / "empty").mkdir()
    with pytest.raises(ConfigError, match="hold no image"):
        defectmill.inspect("empty", "fake")
    with pytest.raises(ConfigError, match="none is no folder"):
        defectmill.inspect("none", "fake")
    with pytest.raises(ConfigError, match="fak: no folder, and no experiment; did you mean 'fake'"):
        defectmill.inspect("empty", "fak")
    (project / "output" / "fake" / "thresholds.json").unlink()
    with pytest.raises(ConfigError, match="`make predict EXPERIMENT=fake` writes it"):
        defectmill.inspect("empty", "fake")


def test_a_copy_of_an_output_folder_is_a_model_without_the_project(project, tmp_path_factory):
    write_parts(project / "parts")
    run = load_experiment("fake")
    (run.output / "dataset.json").write_text(run.info.model_dump_json())
    note_predictions(run, {})
    expected = defectmill.inspect("parts", "fake")
    copy = tmp_path_factory.mktemp("usb stick") / "model 7"
    shutil.copytree(run.output, copy)
    for folder in ("input", "output", "notebooks/experiments"):
        shutil.rmtree(project / folder)
    (project / "notebooks" / "experiments").mkdir()
    found = defectmill.inspect("parts", copy)
    pd.testing.assert_frame_equal(found.pictures, expected.pictures)
    assert found.about == ("parts", "Experiment model 7: Drawn bars")
    (copy / "model.keras").write_bytes((copy / "model.keras").read_bytes() + b"0")
    with pytest.raises(
        ConfigError, match=r"model 7/thresholds\.json: chosen for another network fold_0 than"
    ):
        defectmill.inspect("parts", str(copy))
    (copy / "predicted.json").unlink()
    with pytest.raises(ConfigError, match=r"model 7: holds no settings that can be used.*labels\.json"):
        defectmill.inspect("parts", str(copy))


@pytest.mark.parametrize(
    "text",
    [
        "data: {mode: resize, shape: [32, 64], channels: 3}\n",
        "data: {scale: 0.5}\nlabels: {validation_fold: every, n_folds: 3}\n"
        "training: {keep: last, last_fit: 2, schedule: {name: cosine}}\npredict: {flips: [both]}\n",
        "model: {name: flexunet, head: multiclass}\nseed: 3\n",
    ],
)
def test_settings_come_back_from_the_output_folder_as_they_were(project, text):
    (project / "notebooks" / "experiments" / "other.yml").write_text("dataset: fake\n" + text)
    run = load_experiment("other")
    write_stage_settings(run)
    stored = read_output(run.output)
    assert stored.model_dump(exclude={"data"}) == run.model_dump(exclude={"data"})
    assert stored.data.model_dump(exclude={"defect_share"}) == run.data.model_dump(exclude={"defect_share"})
    assert (stored.output, stored.info) == (run.output, run.info)
    assert stored.network_folder("fold_0") == run.network_folder("fold_0")


def test_settings_of_another_version_are_refused_in_one_line(project):
    path = project / "output" / "fake" / "predicted.json"
    note = json.loads(path.read_text())
    path.write_text(json.dumps({**note, "settings": {**note["settings"], "mood": 1}}))
    with pytest.raises(ConfigError, match="fake: holds no settings that can be used") as raised:
        read_output(path.parent)
    assert "\n" not in str(raised.value)


def test_a_model_has_the_settings_that_it_last_predicted_with(project):
    yml = project / "notebooks" / "experiments" / "fake.yml"
    note_predictions(load_experiment("fake", given := {"predict.flips": ["vertical"]}), given)
    assert load_trained("fake").predict.flips == ("vertical",)
    assert load_trained(project / "output" / "fake").predict.flips == ("vertical",)
    whole = yml.read_text()
    yml.write_text(whole.replace("flips: []", "flips: [both], scales: [0.5]"))
    told = r"fake: setting predict\.scales \[1\.0\] -> \[0\.5\] since its thresholds were chosen"
    with pytest.raises(ConfigError, match=told):
        load_trained("fake")
    yml.write_text(whole + "seed: 3\n")  # which no inspection goes by
    assert load_trained("fake").predict.flips == ("vertical",)
    (project / "output" / "fake" / "predicted.json").unlink()
    with pytest.raises(
        ConfigError, match=r"predicted\.json is missing: `make predict EXPERIMENT=fake` writes it"
    ):
        load_trained("fake")


def test_pictures_unlike_those_of_the_training_are_told_one_by_one_and_together(project):
    rng = np.random.default_rng(0)
    pictures = [rng.normal(170, 12, (16, 24)).clip(0, 255).astype(np.uint8) for _ in range(12)]
    data = load_experiment("fake").data
    measures = [drift.measure_image(p[:, :, None], data, lambda shape, _: shape) for p in pictures]
    training = drift.summarize_measures(measures)
    drift.write_statistics(training, project / "output" / "fake" / "training_statistics.json")
    note_predictions(load_experiment("fake"), {})
    same = defectmill.inspect(pictures, "fake")
    assert same.hint == ""
    assert not same.pictures["unlike_training"].any()
    assert same.report().endswith("12 pictures: 12 OK, 0 with defects")
    found = defectmill.inspect([pictures[0], pictures[1] // 2 + 50], "fake")
    assert found.pictures["unlike_training"].tolist()[0] == ""
    assert found.pictures["unlike_training"].tolist()[1].startswith("darker than all 12 training pictures (")
    assert found.hint.startswith(
        "1 of 2 pictures look unlike the 12 training pictures: 1 darker (mean grey 13"
    )
    assert "(unlike the training)" in found.report()


def make_pictures(n_defects: int, n_unread: int, n_ok: int) -> pd.DataFrame:
    numbers = {"height": 9, "width": 16, "largest_probability": 0.5}
    rows = [
        {"ImageId": f"d{n}.png", "verdict": "defect", "classes": "bar 1", "area": 1440 + n, "components": 2}
        | numbers
        | {"area_percent": 10 + n / 1000}
        for n in range(n_defects)
    ]
    rows += [
        {"ImageId": f"k{n}.png", "verdict": "OK", "area": 0, "area_percent": 0.0, "components": 0} | numbers
        for n in range(n_ok)
    ]
    unread = {f"u{n}.png": "no image" for n in range(n_unread)}
    return inspection.make_picture_table(rows, inspection.Listing(Path("x"), [], {}, unread))


def test_the_table_has_defects_first_then_what_could_not_be_read():
    assert format_table(make_pictures(2, 1, 1)).splitlines() == [
        "picture  verdict     pixels      %  probability  defects",
        "d1.png   defect       1,441  10.00         0.50        2  bar 1",
        "d0.png   defect       1,440  10.00         0.50        2  bar 1",
        "u0.png   unreadable                                       no image",
        "k0.png   OK               0                0.50        0",
    ]


def test_a_long_table_is_cut_and_keeps_some_rows_for_what_could_not_be_read():
    lines = format_table(make_pictures(40, 9, 5)).splitlines()
    assert len(lines) == 27
    assert [line.split()[1] for line in lines[1:26]] == ["defect"] * 20 + ["unreadable"] * 5
    assert lines[-1] == "... and 29 more in pictures.csv"
    lines = format_table(make_pictures(20, 9, 5), 34).splitlines()
    assert len(lines) == 35
    assert not lines[-1].startswith("...")


def test_long_names_keep_their_end_and_long_reasons_their_beginning():
    listing = inspection.Listing(Path("x"), [], {}, {f"{'folder/' * 9}part_1.png": "because " * 30})
    row = format_table(inspection.make_picture_table([], listing)).splitlines()[1]
    assert row.startswith("...lder/folder/folder/part_1.png  unreadable")
    assert row.endswith("because becau...")
    assert len(row) <= 120


def test_labels_name_images_in_folders(project):
    write_parts(project / "parts")
    out = defectmill.inspect("parts", "fake").save("found")
    labels = read_labels(out / "runs.csv", ["clean.png", "left/dent.png"])
    assert labels.loc[labels["hasMask"], "ImageId"].tolist() == ["left/dent.png"]
