"""Severstal's adapter, on small copies of what Kaggle ships, drawn by hand."""

import json
import re
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest

from defectmill.catalog import CARDS
from defectmill.datasets.__main__ import prepare
from defectmill.datasets.competition import DatasetError
from defectmill.datasets.severstal import copy_raw
from defectmill.images import write_image
from defectmill.kaggle import KaggleError
from defectmill.labels import LabelError, read_csv, read_labels

CARD = CARDS["severstal"]
TRAIN = {
    "2019": [
        "ImageId_ClassId,EncodedPixels", "a.jpg_1,1 3", "a.jpg_2,", "a.jpg_3,300 2", "a.jpg_4,",
        *(f"b.jpg_{c}," for c in (1, 2, 3, 4)),
    ],
    "current": ["ImageId,ClassId,EncodedPixels", "a.jpg,1,1 3", "a.jpg,3,300 2"],
}  # fmt: skip
SAMPLE = {
    "2019": ["ImageId_ClassId,EncodedPixels", *(f"t.jpg_{c},1 1" for c in (1, 2, 3, 4))],
    "current": ["ImageId,EncodedPixels,ClassId", "t.jpg,1 409600,0"],
}


@pytest.fixture
def raw(tmp_path):
    """A raw folder in the layout asked for: a.jpg has defects, b.jpg none; t.jpg is to be told."""

    def make(layout: str = "2019"):
        folder = tmp_path / "raw"
        for number, name in enumerate(("train_images/a", "train_images/b", "test_images/t")):
            path = folder / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(number).integers(60, 200, (256, 1600), np.uint8)
            write_image(path, noise)
        write(folder / "train.csv", TRAIN[layout])
        write(folder / "sample_submission.csv", SAMPLE[layout])
        return folder

    return make


def write(path, lines):
    path.write_text("\n".join(lines) + "\n")


def zip_up(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, path.relative_to(folder))
    return target


def read_card(folder):
    return json.loads((folder / "dataset.json").read_text())


@pytest.mark.parametrize("layout", ["2019", "current"])
def test_folder_is_kept_to_the_byte(raw, tmp_path, layout):
    source, folder = raw(layout), tmp_path / "input" / "severstal"
    copy_raw(source, CARD, folder)
    for name in ("train.csv", "sample_submission.csv", "train_images/a.jpg", "test_images/t.jpg"):
        assert (folder / name).read_bytes() == (source / name).read_bytes()
    assert (read_card(folder)["layout"], read_card(folder)["partial"]) == (layout, False)
    assert not (folder.parent / "severstal.part").exists()


def test_both_layouts_give_the_same_label_table_with_clean_images_from_the_folder(raw, tmp_path):
    tables = []
    for layout in ("2019", "current"):
        folder = tmp_path / layout / "severstal"
        copy_raw(raw(layout), CARD, folder)
        tables.append(read_labels(folder / "train.csv", ["a.jpg", "b.jpg"], 4))
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["hasMask"].tolist() == [True, False, True, False] + [False] * 4


def test_zip_gives_what_its_folder_gives(raw, tmp_path):
    source = raw()
    copy_raw(source, CARD, tmp_path / "one" / "severstal")
    copy_raw(zip_up(source, tmp_path / "all.zip"), CARD, tmp_path / "two" / "severstal")
    files = [sorted(p for p in (tmp_path / n / "severstal").rglob("*.*")) for n in ("one", "two")]
    assert [p.name for p in files[0]] == [p.name for p in files[1]]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]


def test_pictures_in_zips_inside_and_one_folder_around_all_are_found(raw, tmp_path):
    source = raw()
    for part in ("train_images", "test_images"):
        zip_up(source / part, source / f"{part}.zip")
        shutil.rmtree(source / part)
    (tmp_path / "outer").mkdir()
    source.rename(tmp_path / "outer" / "severstal-steel-defect-detection")
    copy_raw(tmp_path / "outer", CARD, tmp_path / "input" / "severstal")
    assert (tmp_path / "input" / "severstal" / "train_images" / "b.jpg").is_file()
    assert (tmp_path / "input" / "severstal" / "test_images" / "t.jpg").is_file()


def test_labels_without_a_picture_are_kept_and_counted(raw, tmp_path):
    source, folder = raw(), tmp_path / "input" / "severstal"
    write(source / "train.csv", [*TRAIN["2019"], *(f"gone.jpg_{c},5 1" for c in (1, 2, 3, 4))])
    copy_raw(source, CARD, folder)
    card = read_card(folder)
    assert card["partial"]
    assert "labels 3 pictures, 2 of them have a file" in card["notes"][0]
    assert len(read_csv(folder / "train.csv")) == 12
    assert read_labels(folder / "train.csv", ["b.jpg"], 4, partial=True)["ImageId"].unique() == [
        "b.jpg"
    ]


@pytest.mark.parametrize("layout", ["2019", "current"])
def test_sample_that_asks_for_other_pictures_is_written_for_those_there(raw, tmp_path, layout):
    source, folder = raw(layout), tmp_path / "input" / "severstal"
    write(source / "sample_submission.csv",
          [line.replace("t.jpg", "elsewhere_1.jpg") for line in SAMPLE[layout]])  # fmt: skip
    copy_raw(source, CARD, folder)
    assert (folder / "sample_submission.csv").read_text().splitlines() == SAMPLE[layout]
    assert "is not for Kaggle" in read_card(folder)["notes"][1]


@pytest.mark.parametrize(
    ("lines", "error", "said"),
    [
        (["Image_Label,EncodedPixels", "a.jpg_Fish,1 2"], LabelError, "no column 'ImageId'"),
        (["ImageId,ClassId,EncodedPixels", "x.png,1,1 2"], DatasetError,
         r"none of which is in train_images \(a\.jpg, \.\.\.\): is it of another competition"),
        (["ImageId,ClassId,EncodedPixels", "a.jpg,5,1 2"], LabelError, r"row 2: class id 5 is out"),
        (["ImageId,ClassId,EncodedPixels", "a.jpg,2,409600 2"], DatasetError,
         r"train\.csv: a\.jpg class 2: .*409600"),
    ],
)  # fmt: skip
def test_train_csv_of_another_competition_is_refused(raw, tmp_path, lines, error, said):
    source = raw()
    write(source / "train.csv", lines)
    with pytest.raises(error, match=said):
        copy_raw(source, CARD, tmp_path / "input" / "severstal")
    assert not (tmp_path / "input" / "severstal").exists()


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("train.csv", r"raw: no train\.csv; it holds sample_submission\.csv, test_images, train"),
        ("sample_submission.csv", r"no sample_submission\.csv"),
        ("train_images", r"train_images: no pictures there, nor in train_images\.zip"),
        ("test_images", r"test_images: no pictures there"),
    ],
)
def test_missing_part_is_named(raw, tmp_path, gone, said):
    source = raw()
    path = source / gone
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(DatasetError, match=said):
        copy_raw(source, CARD, tmp_path / "input" / "severstal")


def test_truncated_zip_is_refused_and_the_former_folder_stays(raw, tmp_path):
    source, folder = raw(), tmp_path / "input" / "severstal"
    copy_raw(source, CARD, folder)
    archive = zip_up(source, tmp_path / "all.zip")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"all\.zip: not a whole zip file"):
        copy_raw(archive, CARD, folder)
    assert (folder / "train.csv").is_file()


def test_nothing_given_asks_kaggle(root, raw, monkeypatch):
    archive = zip_up(raw(), root / "all.zip")
    asked = []
    monkeypatch.setattr(
        "defectmill.datasets.__main__.download", lambda *a: asked.append(a) or archive
    )
    prepare("severstal", "")
    assert asked == [("severstal-steel-defect-detection", root / "input")]
    assert (root / "input" / "severstal" / "dataset.json").is_file()


def test_nothing_given_and_no_token_tells_the_steps(root, monkeypatch):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(root))
    with pytest.raises(KaggleError, match=re.escape(f"neither {root / 'kaggle.json'}")):
        prepare("severstal", "")


def test_fuller_of_two_tables_is_taken(raw, tmp_path):
    source = raw()
    (source / "train.csv").rename(source / "train_2019.csv")
    write(source / "train_current.csv", TRAIN["current"])
    copy_raw(source, CARD, tmp_path / "input" / "severstal")
    assert read_card(tmp_path / "input" / "severstal")["layout"] == "2019"


def test_two_folders_are_refused(root, raw):
    source = raw()
    with pytest.raises(DatasetError, match="severstal takes one folder or zip"):
        prepare("severstal", f"{source}:{source}")
