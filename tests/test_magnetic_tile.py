"""The magnetic tiles' adapter, on a raw folder made by hand, and the folder that it writes."""

import json
import re

import numpy as np
import pytest

from defectmill.cards import Card
from defectmill.catalog import CARDS
from defectmill.config import ConfigError
from defectmill.datasets.__main__ import prepare
from defectmill.datasets.competition import DatasetError, Picture, write_competition
from defectmill.datasets.magnetic_tile import read_raw
from defectmill.datasets.pairs import EMPTY
from defectmill.images import ImageError, list_images, read_image, write_image
from defectmill.labels import read_labels, split_image_class
from fake_competition import make_card

CARD = CARDS["magnetic-tile"]
FOLDERS = ("MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven", "MT_Free")


def add(raw, folder: str, number: int, mask: np.ndarray | None, shape=(37, 53)) -> None:
    """Write one picture, every one with a texture of its own, and its mask where there is one."""
    stem = raw / folder / "Imgs" / f"exp1_num_{number}"
    image = np.random.default_rng(number).integers(60, 200, shape, np.uint8)
    write_image(stem.with_suffix(".jpg"), image)
    if mask is not None:
        write_image(stem.with_suffix(".png"), mask)


@pytest.fixture
def raw(tmp_path):
    """Two pictures a class, parts 1000 numbers apart."""
    raw = tmp_path / "raw"
    for n, folder in enumerate(FOLDERS):
        (raw / folder / "Imgs").mkdir(parents=True)
        for twice in (0, 1):
            mask = np.zeros((37, 53), np.uint8)
            if folder != "MT_Free":
                mask[3:5, 10] = 255
            add(raw, folder, 10_000 * (n + 1) + 1000 * twice, mask)
    return raw


def pictures_of(raw) -> dict[str, Picture]:
    return {picture.image_id: picture for picture in read_raw(raw, CARD)}


def test_folder_gives_the_class(raw):
    pictures = pictures_of(raw)
    assert len(pictures) == 12
    for n in range(6):
        masks = pictures[f"exp1_num_{10_000 * (n + 1)}.jpg"].masks
        assert masks.shape == (37, 53, 5)
        assert masks.sum(axis=(0, 1)).tolist() == [2 * (c == n) for c in range(5)]


def test_pixel_is_defect_from_128_on(raw):
    mask = np.zeros((37, 53), np.uint8)
    mask[0, :6] = 1, 127, 128, 129, 254, 255
    add(raw, "MT_Crack", 1, mask)
    drawn = pictures_of(raw)["exp1_num_1.jpg"].masks[:, :, 2]
    assert drawn[0, :7].tolist() == [0, 0, 1, 1, 1, 1, 0]
    assert drawn.sum() == 4


def test_empty_mask_in_a_defect_class_is_clean_and_noted(raw):
    add(raw, "MT_Uneven", 1, np.full((37, 53), 127, np.uint8))
    pictures = pictures_of(raw)
    assert not pictures["exp1_num_1.jpg"].masks.any()
    empty = [image_id for image_id, p in pictures.items() if p.odd.get(EMPTY)]
    assert empty == ["exp1_num_1.jpg"]
    # Of the parts without a defect it says nothing.
    assert [EMPTY in p.odd for p in pictures.values()].count(True) == 11


def test_what_is_odd_is_counted_and_named_in_the_notes(root):
    image, masks = np.zeros((4, 7), np.uint8), np.zeros((4, 7, 2), np.uint8)
    pictures = [
        Picture(f"{n}.png", image, masks, "train", {"specks": n} if n else {}) for n in range(8)
    ]
    folder = root / "input" / "fake"
    write_competition(pictures, make_card("fake"), folder)
    notes = json.loads((folder / "dataset.json").read_text())["notes"]
    named = "1.png, 2.png, 3.png, 4.png, 5.png, ..."
    assert notes == [f"specks: 28, in 7 pictures ({named})"]


def test_all_that_is_odd_is_listed_by_picture_with_what_was_looked_for_in_vain(root):
    image, masks = np.zeros((4, 7), np.uint8), np.zeros((4, 7, 2), np.uint8)
    pictures = [
        Picture("a.png", image, masks, "train", {"specks, rubbed out": 3, "holes": 0}, {2: (9, 4)}),
        Picture("b.png", image, masks, "train", {"specks, rubbed out": 0}, {2: (3, 2), 1: (5, 5)}),
        Picture("c.png", image, None),
    ]
    write_competition(pictures, make_card("fake"), root / "input" / "fake")
    assert (root / "input" / "fake" / "odd.csv").read_text().splitlines() == [
        "finding,ImageId,value",
        '"without labels, left out",c.png,1',
        '"specks, rubbed out",a.png,3',
        "holes,,0",
        '"grey mask of class 1, area at > 0 is 1.00 times that at == 255",,0',
        '"grey mask of class 2, area at > 0 is 2.00 times that at == 255",a.png,5',
        '"grey mask of class 2, area at > 0 is 2.00 times that at == 255",b.png,1',
    ]


def test_each_picture_keeps_its_own_size(raw):
    add(raw, "MT_Fray", 1, np.full((29, 61), 255, np.uint8), shape=(29, 61))
    assert pictures_of(raw)["exp1_num_1.jpg"].masks.shape == (29, 61, 5)


@pytest.mark.parametrize(("lost", "lacks"), [(".png", "mask"), (".jpg", "picture")])
def test_orphan_is_named(raw, lost, lacks):
    stem = raw / "MT_Break" / "Imgs" / "exp1_num_20000"
    stem.with_suffix(lost).unlink()
    left = stem.with_suffix({".png": ".jpg", ".jpg": ".png"}[lost])
    with pytest.raises(DatasetError, match=re.escape(f"{left}: has no {lacks}")):
        list(read_raw(raw, CARD))


def test_mask_of_another_size_is_named(raw):
    add(raw, "MT_Break", 1, np.zeros((53, 37), np.uint8))
    offence = re.escape("exp1_num_1.png: a mask of (53, 37) for a picture of (37, 53)")
    with pytest.raises(DatasetError, match=offence):
        list(read_raw(raw, CARD))


def test_defect_on_a_free_part_is_named(raw):
    add(raw, "MT_Free", 1, np.full((37, 53), 128, np.uint8))
    with pytest.raises(DatasetError, match=r"exp1_num_1\.png: a part without a defect"):
        list(read_raw(raw, CARD))


def test_missing_class_folder_is_named_with_what_is_there(raw):
    (raw / "MT_Fray").rename(raw / "MT_Frey")
    with pytest.raises(DatasetError, match=r"MT_Fray/Imgs: no such folder; .* MT_Free, MT_Frey"):
        list(read_raw(raw, CARD))


def test_damaged_picture_is_named(raw):
    (raw / "MT_Free" / "Imgs" / "exp1_num_60000.jpg").write_bytes(b"cut")
    with pytest.raises(ImageError, match=r"exp1_num_60000\.jpg: not a readable picture"):
        list(read_raw(raw, CARD))


def test_competition_folder_holds_every_picture_once(raw, root, capsys):
    folder = prepare("magnetic-tile", str(raw))
    assert folder == root / "input" / "magnetic-tile"
    train, test = (set(list_images(folder / f"{part}_images")) for part in ("train", "test"))
    assert not train & test
    assert train | test == set(pictures_of(raw))
    assert test
    for csv, ids in (("train.csv", train), ("solution.csv", test), ("sample_submission.csv", test)):
        labels = read_labels(folder / csv, n_classes=5)
        assert set(labels["ImageId"]) == ids
        assert len((folder / csv).read_text().splitlines()) == 1 + 5 * len(ids)
    assert "masks binarised at 128" in capsys.readouterr().out


def test_picture_is_copied_to_the_byte_and_its_mask_survives(raw, root):
    folder = prepare("magnetic-tile", str(raw))
    for number, class_id in ((10_000, 1), (30_000, 3)):
        image_id = f"exp1_num_{number}.jpg"
        (copy,) = folder.glob(f"*_images/{image_id}")
        (source,) = raw.rglob(image_id)
        assert copy.read_bytes() == source.read_bytes()
        csv = "train.csv" if copy.parent.name == "train_images" else "solution.csv"
        lines = dict(line.split(",") for line in (folder / csv).read_text().splitlines())
        # Column 10 of 37 rows, rows 3 and 4: pixels 374 and 375.
        assert lines[f"{image_id}_{class_id}"] == "374 2"
        assert [runs for pair, runs in lines.items() if image_id in pair].count("") == 4


def test_shots_of_a_part_stay_on_one_side(raw, root):
    for number in (10_050, 10_100, 20_010, 60_020, 61_100):
        add(raw, "MT_Free", number, np.zeros((37, 53), np.uint8))
    folder = prepare("magnetic-tile", str(raw))
    sides = {
        image_id: part
        for part in ("train", "test")
        for image_id in list_images(folder / f"{part}_images")
    }
    for first, second in ((10_000, 10_050), (10_050, 10_100), (20_000, 20_010), (60_000, 60_020)):
        assert sides[f"exp1_num_{first}.jpg"] == sides[f"exp1_num_{second}.jpg"]


def test_dataset_json_is_a_card_with_notes(raw, root):
    folder = prepare("magnetic-tile", str(raw))
    card = Card.model_validate_json((folder / "dataset.json").read_text())
    assert card.model_copy(update={"notes": ()}) == CARD
    assert card.notes[0] == "masks binarised at 128"
    assert card.notes[1].startswith("12 pictures in 12 groups; test part: fold 0 of 5")


def test_preparing_twice_writes_the_same_bytes(raw, root):
    def content(folder):
        return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    first = content(prepare("magnetic-tile", str(raw)))
    assert content(prepare("magnetic-tile", str(raw))) == first


def test_failure_half_way_leaves_no_folder(raw, root):
    add(raw, "MT_Free", 1, np.zeros((53, 37), np.uint8))
    with pytest.raises(DatasetError, match="a mask of"):
        prepare("magnetic-tile", str(raw))
    assert not (root / "input" / "magnetic-tile").exists()


def test_failure_half_way_leaves_the_older_folder_whole(root):
    folder, image = root / "input" / "fake", np.zeros((4, 7), np.uint8)
    masks = np.zeros((4, 7, 2), np.uint8)
    good = [Picture("a.png", image, masks, "train"), Picture("b.png", image, masks, "test")]
    write_competition(good, make_card(), folder)
    before = sorted(p.name for p in folder.rglob("*"))

    def failing():
        yield good[0]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_competition(failing(), make_card(), folder)
    assert sorted(p.name for p in folder.rglob("*")) == before
    write_competition(good, make_card(), folder)
    assert sorted(p.name for p in folder.rglob("*")) == before
    assert [p.name for p in folder.parent.iterdir()] == ["fake"]


def test_given_parts_and_drawn_pictures_are_kept(root):
    image = np.arange(28, dtype=np.uint8).reshape(4, 7)
    masks = np.zeros((4, 7, 2), np.uint8)
    masks[1, 2, 1] = 1
    folder = root / "input" / "fake"
    pictures = [Picture("a_1.png", image, masks, "test"), Picture("b.png", image, masks, "train")]
    write_competition(pictures, make_card("fake"), folder)
    assert (folder / "train.csv").read_text().splitlines()[1:] == ["b.png_1,", "b.png_2,10 1"]
    assert (folder / "solution.csv").read_text().splitlines()[1:] == [
        "a_1.png_1,",
        "a_1.png_2,10 1",
    ]
    np.testing.assert_array_equal(read_image(folder / "test_images/a_1.png")[:, :, 0], image)
    asked = (folder / "sample_submission.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in asked] == ["1 1", "1 1"]
    assert [split_image_class(line.split(",")[0])[1] for line in asked] == [1, 2]
    assert json.loads((folder / "dataset.json").read_text())["notes"] == []


def test_two_pictures_of_one_name_are_refused(root):
    picture = Picture("a.png", np.zeros((4, 7), np.uint8), np.zeros((4, 7, 2), np.uint8), "train")
    with pytest.raises(DatasetError, match=r"two pictures are called a\.png"):
        write_competition([picture, picture], make_card(), root / "input" / "fake")
    assert not (root / "input" / "fake").exists()


def test_no_pictures_at_all_is_refused(root):
    with pytest.raises(DatasetError, match="fake: the raw folder holds no pictures"):
        write_competition([], make_card(), root / "input" / "fake")


@pytest.mark.parametrize(
    ("dataset", "raw", "error", "offence"),
    [
        ("magnetic-tile", "", DatasetError, "RAW=<folder>; they come from https://github.com"),
        ("magnetic-tile", "/no/such", DatasetError, "RAW=/no/such: no such folder"),
        ("magnetic-tyle", "", ConfigError, "did you mean 'magnetic-tile'"),
    ],
)
def test_wrong_call_is_explained(root, dataset, raw, error, offence):
    with pytest.raises(error, match=re.escape(offence)):
        prepare(dataset, raw)


def test_empty_raw_folder_is_refused(root, tmp_path):
    (tmp_path / "void").mkdir()
    with pytest.raises(DatasetError, match="void: no such folder, or an empty one"):
        prepare("magnetic-tile", str(tmp_path / "void"))


def test_own_dataset_needs_no_adapter(root):
    (root / "input" / "mine").mkdir()
    (root / "input" / "mine" / "dataset.json").write_text(make_card("mine").model_dump_json())
    with pytest.raises(DatasetError, match="mine is your own dataset"):
        prepare("mine", "")
