"""Datasets of one's own as people have them, drawn by hand: what make new finds, tells and writes."""

import json

import numpy as np
import pytest
from PIL import Image

from defectmill.dataset_info import read_dataset_info
from defectmill.files import DefectmillError
from defectmill.running import new

SHAPE = (40, 60)


def add(
    raw, number: int, mask: np.ndarray, image: str = "images/p{}.png", drawn: str = "masks/p{}.png"
) -> None:
    noise = np.random.default_rng(number).integers(60, 200, (*SHAPE, 3), np.uint8)
    for name, array in ((image, noise), (drawn, mask)):
        path = raw / name.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)


def blocks(first, second=0, number: int = 0) -> np.ndarray:
    """Two blocks, of 6 x 8 and 3 x 4 pixels."""
    values = np.array(
        [
            np.zeros_like(np.array(first)),
            first,
            second if np.size(second) > 1 else np.array(first) * 0 + second,
        ]
    )
    numbers = np.zeros(SHAPE, int)
    numbers[10:16, 10 + number : 18 + number], numbers[30:33, 40:44] = 1, 2
    return values[numbers].astype(np.uint8)


@pytest.fixture
def planned(root, monkeypatch):
    """Let make new run without a notebook and without measuring; gives its folder of inputs."""
    (root / "notebooks" / "experiments").mkdir(parents=True, exist_ok=True)

    def plan(name, experiment, budget):
        experiment.write_text(f"dataset: {name}\n# {budget}\n")

    monkeypatch.setattr(new, "_plan", plan)
    return root / "input"


def test_colour_masks_become_classes_and_an_experiment(planned, tmp_path, capsys):
    for number in range(6):
        add(tmp_path, number, blocks((255, 0, 0), (0, 0, 255), number))
    written = new.make_new("own", str(tmp_path), "7min")
    assert written.read_text() == "dataset: own\n# 7min\n"
    info = json.loads((planned / "own" / "info.json").read_text())
    assert info == {
        "name": "own",
        "title": "own",
        "layout": "current",
        "classes": [
            {"id": 1, "name": "class 1", "colour": [0, 0, 255]},
            {"id": 2, "name": "class 2", "colour": [255, 0, 0]},
        ],
    }
    told = capsys.readouterr().out
    assert "6 images, 6 masks (6 in colours), colours (0, 0, 0), (255, 0, 0), (0, 0, 255)" in told
    assert "masks are read as colours" in told
    assert "training images, 4 of 40 x 60 (height x width)" in told
    assert read_dataset_info(planned / "own" / "dataset.json").n_classes == 2


def test_class_numbers_become_classes_with_colours_that_differ(planned, tmp_path):
    for number in range(6):
        add(tmp_path, number, blocks(4, 9, number))
    new.make_new("own", str(tmp_path), "")
    info = read_dataset_info(planned / "own" / "dataset.json")
    assert [kind.value for kind in info.classes] == [4, 9]
    assert len({*info.colours, (0, 0, 0)}) == 3
    areas = (planned / "own" / "train.csv").read_text()
    assert areas.count(".png,") == 2 * 4


def test_a_folder_for_each_class_gives_their_names_and_may_overlap(planned, tmp_path):
    for number in range(6):
        add(tmp_path, number, blocks(255, 0, number), drawn="masks/oil spot/p{}.png")
        add(tmp_path, number, blocks(255, 255, number), drawn="masks/dent/p{}.png")
    new.make_new("own", str(tmp_path), "")
    for name in ("info.json", "dataset.json"):
        info = read_dataset_info(planned / "own" / name)
        assert info.class_names == ["dent", "oil spot"]
        assert not info.exclusive


def test_an_info_that_was_mended_is_taken_as_it_stands(planned, tmp_path):
    for number in range(6):
        add(tmp_path, number, blocks(255, 0, number))
    (tmp_path / "masks" / "p3.png").unlink()
    with pytest.raises(
        DefectmillError, match=r'p3\.png: has no mask; .*"without_mask".*\nmend input/own/info\.json'
    ):
        new.make_new("own", str(tmp_path), "")
    path = planned / "own" / "info.json"
    assert not (planned / "own" / "dataset.json").exists()
    path.write_text(json.dumps({**json.loads(path.read_text()), "without_mask": "clean"}))
    new.make_new("own", str(tmp_path), "")
    assert read_dataset_info(planned / "own" / "dataset.json").without_mask == "clean"


def test_a_plan_that_fails_leaves_no_experiment(planned, tmp_path, monkeypatch):
    for number in range(6):
        add(tmp_path, number, blocks(255, 0, number))

    def fail(*_):
        raise DefectmillError("no time")

    monkeypatch.setattr(new, "_plan", fail)
    with pytest.raises(DefectmillError, match="no time"):
        new.make_new("own", str(tmp_path), "")
    assert list((planned.parent / "notebooks" / "experiments").glob("own*")) == []


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a b", ".", "NAME=a b: one word of letters"),
        ("", ".", "NAME=: one word of letters"),
        ("crack", ".", "NAME=crack: is taken"),
        ("own", "", "RAW=: no such file or folder; say make new NAME=own RAW="),
        ("own", "/nowhere", "RAW=/nowhere: no such"),
    ],
)
def test_a_wrong_name_or_folder_is_told_at_once(planned, name, raw, message):
    with pytest.raises(DefectmillError, match=message):
        new.make_new(name, raw, "")


def test_images_without_masks_are_refused(planned, tmp_path):
    add(tmp_path, 0, blocks(255))
    (tmp_path / "masks" / "p0.png").unlink()
    with pytest.raises(DefectmillError, match="holds 1 images and no masks or annotations of a known format"):
        new.make_new("own", str(tmp_path), "")


def test_parts_are_guessed_where_names_share_them():
    copies = ["color_16.png", "warped_7_cut_1.png", "warped_8_cut_1.png", "warped_8_fold_3.png"]
    assert new.guess_groups(copies) == new.PATTERNS[0]
    crops = ["shot1_0_0.jpg", "shot1_0_64.jpg", "shot2_0_0.jpg", "shot3_0_0.jpg"]
    assert new.guess_groups(crops) == new.PATTERNS[1]
    assert new.guess_groups(["img_1.png", "img_2.png", "img_3.png", "img_4.png"]) == ""
    assert new.guess_groups(["a_1_2.png", "a_1_3.png", "a_1_4.png"]) == ""


def test_spread_colours_differ_and_are_bright():
    colours = new.spread_colours(12)
    assert len(set(colours)) == 12
    assert min(max(colour) for colour in colours) == 255


def test_what_was_made_or_mended_by_hand_is_not_written_over(planned, tmp_path):
    for number in range(6):
        add(tmp_path, number, blocks(255, 0, number))
    experiment = new.make_new("own", str(tmp_path), "")
    experiment.unlink()
    (planned / "own" / "train.csv").write_text("days of work")
    with pytest.raises(DefectmillError, match=r"own/train\.csv: edited since it was made from RAW="):
        new.make_new("own", str(tmp_path), "")
    (planned / "hand").mkdir()
    (planned / "hand" / "train.csv").write_text("days of work")
    with pytest.raises(DefectmillError, match=r"hand/train\.csv: made by hand"):
        new.make_new("hand", str(tmp_path), "")
    assert [p.name for p in (planned / "hand").iterdir()] == ["train.csv"]


def test_a_class_that_cannot_be_called_so_is_told_in_one_line(planned, tmp_path):
    for number in range(6):
        add(tmp_path, number, blocks(255), drawn="masks/all classes/p{}.png")
        add(tmp_path, number, blocks(255), drawn="masks/b/p{}.png")
    with pytest.raises(
        DefectmillError, match=r"cannot be described: class names must differ.*rename the classes"
    ):
        new.make_new("own", str(tmp_path), "")


def test_a_file_of_no_known_format_says_what_is_read(planned, tmp_path):
    (tmp_path / "a.zip").touch()
    with pytest.raises(DefectmillError, match=r"a\.zip: holds no masks or annotations .* unpack a zip first"):
        new.make_new("own", str(tmp_path / "a.zip"), "")


def test_the_layout_of_mvtec_gives_its_classes(planned, tmp_path):
    for number in range(6):
        name = "dent" if number % 2 else "stain"
        add(tmp_path, number, blocks(255), f"test/{name}/p{{}}.png", f"ground_truth/{name}/p{{}}_mask.png")
        add(tmp_path, number + 9, blocks(255), "test/good/p{}.png", "train/good/p{}.png")
    new.make_new("own", str(tmp_path), "")
    assert read_dataset_info(planned / "own" / "info.json").class_names == ["dent", "stain"]
