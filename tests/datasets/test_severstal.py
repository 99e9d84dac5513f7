"""Severstal's adapter, on small copies of what Kaggle ships, drawn by hand."""

import json
import os
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest

from defectmill.dataset_info import builtin_datasets
from defectmill.datasets.competition import DatasetError
from defectmill.datasets.prepare import prepare
from defectmill.datasets.severstal import copy_raw
from defectmill.images import write_image
from defectmill.labels import LabelError, make_label_table, read_csv, read_labels
from defectmill.submission import asked_images, write_submission

INFO = builtin_datasets()["severstal"]
HEADER = "ImageId,ClassId,EncodedPixels"
TRAIN = {
    "2019": ["ImageId_ClassId,EncodedPixels", "a.jpg_1,1 3", "a.jpg_2,", "a.jpg_3,300 2", "a.jpg_4,"]
    + [f"b.jpg_{c}," for c in (1, 2, 3, 4)],
    "current": [HEADER, "a.jpg,1,1 3", "a.jpg,3,300 2"],
}
SAMPLE = {
    "2019": ["ImageId_ClassId,EncodedPixels", *(f"t.jpg_{c},1 1" for c in (1, 2, 3, 4))],
    "current": ["ImageId,EncodedPixels,ClassId", "t.jpg,1 409600,0"],
}


def make_raw(tmp_path, layout: str = "2019"):
    """A raw folder in the layout asked for: a.jpg has defects, b.jpg none; t.jpg is the test part."""
    folder, rng = tmp_path / "raw", np.random.default_rng(0)
    for name in ("train_images/a.jpg", "train_images/b.jpg", "test_images/t.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, rng.integers(60, 200, (256, 1600), np.uint8))
    write(folder / "train.csv", TRAIN[layout])
    write(folder / "sample_submission.csv", SAMPLE[layout])
    return folder


def copied(source, name: str = "input"):
    """Make the competition folder of a raw one, in a folder of this name beside it."""
    copy_raw(source, INFO, source.parent / name / "severstal")
    return source.parent / name / "severstal"


def write(path, lines):
    path.write_text("\n".join(lines) + "\n")


def zip_up(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, path.relative_to(folder))
    return target


def read_info(folder):
    return json.loads((folder / "dataset.json").read_text())


@pytest.mark.parametrize("layout", ["2019", "current"])
def test_folder_is_kept_to_the_byte(tmp_path, layout):
    source = make_raw(tmp_path, layout)
    folder = copied(source)
    for name in ("train.csv", "sample_submission.csv", "train_images/a.jpg", "test_images/t.jpg"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    assert (read_info(folder)["layout"], read_info(folder)["partial"]) == (layout, False)
    assert not (folder.parent / "severstal.part").exists()


def test_both_layouts_give_the_same_label_table_with_clean_images_from_the_folder(tmp_path):
    csvs = [copied(make_raw(tmp_path, layout), layout) / "train.csv" for layout in ("2019", "current")]
    tables = [read_labels(csv, ["a.jpg", "b.jpg"], 4) for csv in csvs]
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["hasMask"].tolist() == [True, False, True, False] + [False] * 4


def test_zip_gives_what_its_folder_gives(tmp_path):
    source = make_raw(tmp_path)
    folders = copied(source, "one"), copied(zip_up(source, tmp_path / "all.zip"), "two")
    files = [sorted(folder.rglob("*.*")) for folder in folders]
    assert [p.name for p in files[0]] == [p.name for p in files[1]]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]


def test_images_in_zips_inside_and_one_folder_around_all_are_found(tmp_path):
    source = make_raw(tmp_path / "outer")
    for part in ("train_images", "test_images"):
        zip_up(source / part, source / f"{part}.zip")
        shutil.rmtree(source / part)
    folder = copied(source.parent)
    assert (folder / "train_images/b.jpg").is_file()
    assert (folder / "test_images/t.jpg").is_file()


def test_labels_without_an_image_are_kept_and_counted(tmp_path):
    source = make_raw(tmp_path)
    write(source / "train.csv", [*TRAIN["2019"], *(f"gone.jpg_{c},5 1" for c in (1, 2, 3, 4))])
    folder = copied(source)
    assert read_info(folder)["partial"]
    assert "labels 3 images, 2 of them have a file" in read_info(folder)["notes"][0]
    assert len(read_csv(folder / "train.csv")) == 12
    assert read_labels(folder / "train.csv", ["b.jpg"], 4, partial=True)["ImageId"].unique() == ["b.jpg"]


@pytest.mark.parametrize("layout", ["2019", "current"])
def test_sample_submission_for_other_images_is_written_for_those_there(tmp_path, layout):
    source = make_raw(tmp_path, layout)
    others = [line.replace("t.jpg", "elsewhere_1.jpg") for line in SAMPLE[layout]]
    write(source / "sample_submission.csv", others)
    folder = copied(source)
    assert (folder / "sample_submission.csv").read_text().splitlines() == SAMPLE[layout]
    assert "is not for Kaggle" in read_info(folder)["notes"][1]


@pytest.mark.parametrize(
    ("lines", "error", "message"),
    [
        ("Image_Label,EncodedPixels/a.jpg_Fish,1 2", LabelError, "no column 'ImageId'"),
        (f"{HEADER}/x.png,1,1 2", DatasetError, r"none of which is in train_images \(a\.jpg.* another comp"),
        (f"{HEADER}/a.jpg,5,1 2", LabelError, "row 2: class id 5 is out"),
        (f"{HEADER}/a.jpg,2,409600 2", DatasetError, r"train\.csv: a\.jpg class 2: .*409600"),
    ],
)
def test_train_csv_of_another_competition_is_refused(tmp_path, lines, error, message):
    source = make_raw(tmp_path)
    write(source / "train.csv", lines.split("/"))
    with pytest.raises(error, match=message):
        copied(source)
    assert not (tmp_path / "input" / "severstal").exists()


@pytest.mark.parametrize("layout", ["2019", "current"])
def test_without_a_sample_all_test_images_are_asked_for(tmp_path, layout):
    source = make_raw(tmp_path, layout)
    (source / "sample_submission.csv").unlink()
    folder = copied(source)
    assert not (folder / "sample_submission.csv").exists()
    assert "no sample_submission.csv: all of test_images are asked for" in read_info(folder)["notes"][1]
    assert asked_images(folder / "sample_submission.csv") == ["t.jpg"]
    empty = make_label_table([("t.jpg", class_id, "") for class_id in (1, 2, 3, 4)])
    write_submission(empty, tmp_path / "s.csv", folder / "sample_submission.csv")
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 5


def test_links_to_folders_are_not_followed_and_pipes_not_waited_for(tmp_path):
    source = make_raw(tmp_path)
    (source / "train_images" / "up").symlink_to(source, target_is_directory=True)
    os.mkfifo(source / "train_images" / "c.jpg")
    (source / "train_images" / "d.jpg").symlink_to("/dev/zero")
    folder = copied(source)
    assert sorted(p.name for p in (folder / "train_images").iterdir()) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("train.csv", r"raw: no train\.csv; it holds sample_submission\.csv, test_images, train"),
        ("train_images", r"train_images: no images there, nor in train_images\.zip"),
        ("test_images", r"test_images: no images there"),
    ],
)
def test_missing_part_is_named(tmp_path, gone, message):
    source = make_raw(tmp_path)
    path = source / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(DatasetError, match=message):
        copied(source)


def test_truncated_zip_is_refused_and_the_former_folder_stays(tmp_path):
    source = make_raw(tmp_path)
    folder = copied(source)
    archive = zip_up(source, tmp_path / "all.zip")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"all\.zip: not a whole zip file"):
        copied(archive)
    assert (folder / "train.csv").is_file()


def test_nothing_given_asks_kaggle(root, monkeypatch):
    archive = zip_up(make_raw(root), root / "all.zip")
    asked = []
    monkeypatch.setattr("defectmill.datasets.prepare.download", lambda *a: asked.append(a) or archive)
    prepare("severstal", "")
    assert asked == [("severstal-steel-defect-detection", root / "input")]
    assert (root / "input" / "severstal" / "dataset.json").is_file()


def test_fuller_of_two_tables_is_taken(tmp_path):
    source = make_raw(tmp_path)
    (source / "train.csv").rename(source / "train_2019.csv")
    write(source / "train_current.csv", TRAIN["current"])
    assert read_info(copied(source))["layout"] == "2019"
