"""Which adapter makes which dataset, and what is refused."""

import re
from pathlib import Path

import pytest

from defectmill.dataset_info import builtin_datasets
from defectmill.datasets.competition import DatasetError
from defectmill.datasets.prepare import prepare
from defectmill.datasets.sample.pictures import draw_pictures
from defectmill.files import DefectmillError
from defectmill.images import list_images
from defectmill.labels import read_labels
from fake_competition import make_info
from fake_raw import add_pair, colour_mask

TILE = builtin_datasets()["mvtec-tile"]


def test_sample_is_drawn_without_a_raw_folder(root, monkeypatch, capsys):
    monkeypatch.setattr("defectmill.datasets.sample.pictures.read_raw", lambda *_: draw_pictures(2026, 2, 1))
    folder = prepare("sample", "")
    assert folder == root / "input" / "sample"
    ids = [list_images(folder / f"{part}_images") for part in ("train", "test")]
    assert [len(names) for names in ids] == [2, 1]
    assert capsys.readouterr().out == "drawn from seed 2026: 240 training and 80 test images\n"


def test_aluminum_is_read_by_its_colours(root, tmp_path):
    raw = tmp_path / "raw"
    for number, colour in enumerate(builtin_datasets()["aluminum"].colours * 2):
        add_pair(raw, f"{number}.png", colour_mask(colour), number)
    folder = prepare("aluminum", str(raw))
    labels = read_labels(folder / "train.csv", n_classes=6)
    found = labels[labels["hasMask"]]
    assert (found["ImageId"].str[:-4].astype(int) % 6 + 1 == found["ClassId"]).all()
    assert (found["EncodedPixels"] == "171 3 195 3").all()  # columns 7 and 8 of 24 rows


@pytest.mark.parametrize(
    ("dataset", "raw", "error", "offence"),
    [
        ("magnetic-tile", "", DatasetError, "RAW=<folder>; they come from https://github.com"),
        ("crack", ".:/no/such", DatasetError, "RAW=/no/such: no such folder"),
        ("magnetic-tyle", "", DefectmillError, "did you mean 'magnetic-tile'"),
        ("severstal", ".:.", DatasetError, "severstal takes one folder or zip"),
    ],
)
def test_wrong_call_is_explained(root, dataset, raw, error, offence):
    with pytest.raises(error, match=re.escape(offence)):
        prepare(dataset, raw)


def test_empty_raw_folder_is_refused(root, tmp_path):
    (tmp_path / "void").mkdir()
    with pytest.raises(DatasetError, match="void: no such folder, or an empty one"):
        prepare("magnetic-tile", str(tmp_path / "void"))


def test_nothing_given_and_no_token_lists_the_steps_for_kaggle(root, monkeypatch):
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(root))
    with pytest.raises(DatasetError, match=re.escape(f"neither {root / 'access_token'}")):
        prepare("severstal", "")


@pytest.fixture
def own(root):
    """The folder of a dataset of the user's own, and images with masks in the colours of mvtec-tile."""
    (root / "input" / "mine").mkdir()
    for number in range(10):
        add_pair(root / "raw", f"{number}.png", colour_mask((255, 0, 0)), number)
    return root / "input" / "mine", str(root / "raw")


def test_own_dataset_needs_no_adapter(own):
    (own[0] / "dataset.json").write_text(make_info("mine").model_dump_json())
    with pytest.raises(DatasetError, match="mine is your own dataset"):
        prepare("mine", "")


def test_own_folder_of_colour_masks_needs_only_an_info_json(own):
    folder, raw = own
    info = TILE.model_copy(update={"name": "mine", "group_pattern": ""})
    (folder / "info.json").write_text(info.model_dump_json())
    for _ in range(2):
        prepare("mine", raw)
        labels = read_labels(folder / "train.csv", n_classes=5)
        assert set(labels.loc[labels["hasMask"], "ClassId"]) == {2}
        assert (folder / "info.json").is_file()


@pytest.mark.parametrize("raw_is_given", [True, False])
def test_info_json_under_its_old_name_is_refused(own, raw_is_given):
    (own[0] / "card.json").write_text(TILE.model_copy(update={"name": "mine"}).model_dump_json())
    with pytest.raises(DatasetError, match=r"mine/card\.json: rename it to info\.json"):
        prepare("mine", own[1] if raw_is_given else "")


def test_dataset_made_by_hand_is_never_written_over(own):
    folder, raw = own
    (folder / "dataset.json").write_text(TILE.model_copy(update={"name": "mine"}).model_dump_json())
    (folder / "train.csv").write_text("days of work")
    with pytest.raises(DatasetError, match=r"mine was made by hand"):
        prepare("mine", raw)
    assert (folder / "train.csv").read_text() == "days of work"


def test_raw_may_begin_at_home_hold_a_colon_or_an_empty_part(own, monkeypatch):
    folder, raw = own
    monkeypatch.setenv("HOME", str(Path(raw).parent))
    (folder / "info.json").write_text(TILE.model_copy(update={"name": "mine"}).model_dump_json())
    for given in ("~/raw/", f"{raw}::"):
        prepare("mine", given)
    moved = Path(raw).rename(Path(raw).with_name("r:a w"))
    prepare("mine", str(moved))


@pytest.mark.parametrize("name", ["../out", "/out", "a/b", ""])
def test_a_name_that_leaves_input_is_refused(root, name):
    with pytest.raises(DefectmillError, match=r"^DATASET=.*: one word of letters"):
        prepare(name, str(root))
