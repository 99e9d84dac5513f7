"""Magnetic tiles, on a raw folder made by hand, and the competition folder that is made of it."""

import numpy as np
import pytest

from defectmill.dataset_info import DatasetInfo, builtin_datasets
from defectmill.datasets.competition import DatasetError, Picture
from defectmill.datasets.folder import EMPTY
from defectmill.datasets.magnetic_tile import read_raw
from defectmill.datasets.prepare import prepare
from defectmill.images import ImageError, list_images, write_image
from defectmill.labels import read_labels

INFO = builtin_datasets()["magnetic-tile"]
FOLDERS = ("MT_Blowhole", "MT_Break", "MT_Crack", "MT_Fray", "MT_Uneven", "MT_Free")


def add(raw, folder: str, number: int, mask: np.ndarray, shape=(37, 53)) -> None:
    """Write one image, every one with a texture of its own, and its mask."""
    stem = raw / folder / "Imgs" / f"exp1_num_{number}"
    write_image(stem.with_suffix(".jpg"), np.random.default_rng(number).integers(60, 200, shape, np.uint8))
    write_image(stem.with_suffix(".png"), mask)


@pytest.fixture
def raw(tmp_path):
    """Two images a class, parts 1000 numbers apart."""
    raw = tmp_path / "raw"
    for n, folder in enumerate(FOLDERS):
        (raw / folder / "Imgs").mkdir(parents=True)
        for twice in (0, 1):
            mask = np.zeros((37, 53), np.uint8)
            mask[3:5, 10] = 255 * (folder != "MT_Free")
            add(raw, folder, 10_000 * (n + 1) + 1000 * twice, mask)
    return raw


def pictures_of(raw) -> dict[str, Picture]:
    return {picture.image_id: picture for picture in read_raw(raw, INFO)}


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
    assert [image_id for image_id, p in pictures.items() if p.issues.get(EMPTY)] == ["exp1_num_1.jpg"]
    # For parts without a defect it is not looked for.
    assert [EMPTY in p.issues for p in pictures.values()].count(True) == 11


def test_each_image_keeps_its_own_size(raw):
    add(raw, "MT_Fray", 1, np.full((29, 61), 255, np.uint8), shape=(29, 61))
    assert pictures_of(raw)["exp1_num_1.jpg"].masks.shape == (29, 61, 5)


@pytest.mark.parametrize(("lost", "lacks"), [(".png", "mask"), (".jpg", "image")])
def test_orphan_is_named(raw, lost, lacks):
    (raw / "MT_Break" / "Imgs" / f"exp1_num_20000{lost}").unlink()
    with pytest.raises(DatasetError, match=rf"MT_Break/Imgs/exp1_num_20000\.(jpg|png): has no {lacks}"):
        list(read_raw(raw, INFO))


def test_defect_on_a_free_part_is_named(raw):
    add(raw, "MT_Free", 1, np.full((37, 53), 128, np.uint8))
    with pytest.raises(DatasetError, match=r"exp1_num_1\.png: a part without a defect"):
        list(read_raw(raw, INFO))


def test_missing_class_folder_is_named_with_what_is_there(raw):
    (raw / "MT_Fray").rename(raw / "MT_Frey")
    with pytest.raises(DatasetError, match=r"MT_Fray/Imgs: no such folder; .* MT_Free, MT_Frey"):
        list(read_raw(raw, INFO))


def test_damaged_image_is_named(raw):
    (raw / "MT_Free" / "Imgs" / "exp1_num_60000.jpg").write_bytes(b"cut")
    with pytest.raises(ImageError, match=r"exp1_num_60000\.jpg: not a readable image"):
        list(read_raw(raw, INFO))


def test_competition_folder_holds_every_image_once(raw, root, capsys):
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


def test_image_is_copied_to_the_byte_and_its_mask_survives(raw, root):
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


def test_images_of_a_part_stay_on_one_side(raw, root):
    for number in (10_050, 10_100, 20_010, 60_020, 61_100):
        add(raw, "MT_Free", number, np.zeros((37, 53), np.uint8))
    folder = prepare("magnetic-tile", str(raw))
    train = list_images(folder / "train_images")
    for first, second in ((10_000, 10_050), (10_050, 10_100), (20_000, 20_010), (60_000, 60_020)):
        assert (f"exp1_num_{first}.jpg" in train) == (f"exp1_num_{second}.jpg" in train)


def test_dataset_json_is_the_info_with_notes(raw, root):
    folder = prepare("magnetic-tile", str(raw))
    info = DatasetInfo.model_validate_json((folder / "dataset.json").read_text())
    assert info.model_copy(update={"notes": ()}) == INFO
    assert info.notes[0] == "masks binarised at 128"
    assert info.notes[1].startswith("12 images in 12 groups; test part: fold 0 of 5")


def test_preparing_twice_writes_the_same_bytes(raw, root):
    def content(folder):
        return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    first = content(prepare("magnetic-tile", str(raw)))
    assert content(prepare("magnetic-tile", str(raw))) == first


def test_failure_half_way_leaves_no_folder(raw, root):
    add(raw, "MT_Free", 1, np.zeros((53, 37), np.uint8))
    with pytest.raises(
        DatasetError, match=r"exp1_num_1\.png: a mask of \(53, 37\) for an image of \(37, 53\)"
    ):
        prepare("magnetic-tile", str(raw))
    assert not (root / "input" / "magnetic-tile").exists()
