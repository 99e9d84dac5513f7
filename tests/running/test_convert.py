"""Formats: own ones by hand, the registry with a writer that loses pixels, datasets and inspections."""

from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from defectmill import formats
from defectmill.__main__ import main
from defectmill.config import ConfigError
from defectmill.formats import FormatError, load_writer
from defectmill.images import colours_from_masks, read_image, write_image
from defectmill.labels import labels_to_text, masks_to_labels, read_labels
from defectmill.prediction.inspection import Listing, describe_picture, make_picture_table
from defectmill.running import convert
from defectmill.running.convert import LOSS_COLUMNS, choose_formats, tell_losses, write_csv, write_masks
from fake_competition import COLOURS, make_info, write_fake_competition

INFO = make_info()


def draw_masks() -> list[tuple[str, np.ndarray]]:
    """Of 4 x 6 pixels: a bar of class 1, of which class 2 covers two pixels; a clean image."""
    one = np.zeros((4, 6, 2), np.uint8)
    one[1, 1:6, 0] = one[1:3, 4:6, 1] = 1
    return [("a.png", one), ("b.jpg", np.zeros((5, 3, 2), np.uint8))]


def write_fake(masks, info, folder: Path) -> pd.DataFrame:
    """A format that draws one pixel of each mask too many; a file an image, with its shape."""
    rows = []
    for image_id, mask in masks:
        (folder / f"{Path(image_id).stem}.txt").write_text(f"{mask.shape}")
        pixels = {class_id: int(mask[:, :, class_id - 1].sum()) for class_id in (1, 2)}
        rows += [(image_id, class_id, n, 0, 1) for class_id, n in pixels.items() if n]
    return pd.DataFrame(rows, columns=LOSS_COLUMNS)


@pytest.fixture
def fake_writer(monkeypatch):
    """Another format in the registry, "fake"."""
    module = SimpleNamespace(write=write_fake)
    monkeypatch.setitem(formats.WRITERS, "fake", ("fake", "write"))
    monkeypatch.setattr(
        formats, "import_module", lambda name: module if name.endswith(".fake") else import_module(name)
    )


def test_csv_names_clean_images_and_comes_back(tmp_path):
    losses = write_csv(iter(draw_masks()), INFO, tmp_path)
    assert losses.to_numpy().tolist() == [["a.png", 1, 5, 0, 0], ["a.png", 2, 4, 0, 0]]
    labels = read_labels(tmp_path / "labels.csv")
    assert labels["ImageId"].unique().tolist() == ["a.png", "b.jpg"]
    pd.testing.assert_frame_equal(labels, masks_to_labels(draw_masks()))


def test_masks_count_what_a_later_class_covers(tmp_path):
    losses = write_masks(iter(draw_masks()), INFO, tmp_path)
    assert losses.to_numpy().tolist() == [["a.png", 1, 5, 2, 0], ["a.png", 2, 4, 0, 0]]
    expected = colours_from_masks(draw_masks()[0][1], COLOURS[:2])
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 3), expected)
    assert read_image(tmp_path / "b.png").shape == (5, 3, 1)
    assert (tmp_path / "classes.csv").read_text().splitlines() == [
        "ClassId,class,red,green,blue",
        "1,bar 1,250,200,40",
        "2,bar 2,60,200,120",
    ]


def test_formats_are_named_with_commas_or_blanks_and_unknown_ones_are_refused():
    assert choose_formats("coco, yolo csv,coco") == ["coco", "yolo", "csv"]
    assert choose_formats("") == []
    with pytest.raises(ConfigError, match="FORMAT=masks,cocoa: no format 'cocoa'; did you mean 'coco'"):
        choose_formats("masks,cocoa")


def test_a_writer_is_imported_by_its_name(fake_writer):
    assert load_writer("fake") is write_fake
    with pytest.raises(FormatError, match="no format 'xml'; there are: coco, yolo, labelme, fake"):
        load_writer("xml")


@pytest.mark.parametrize("name", ["coco", "yolo", "labelme"])
def test_the_writers_that_are_registered_write_what_they_return_a_table_of(name, tmp_path):
    losses = load_writer(name)(iter(draw_masks()), INFO, tmp_path)
    assert losses.columns.tolist() == LOSS_COLUMNS
    assert losses["pixels"].tolist() == [5, 4]
    assert any(tmp_path.iterdir())


def test_losses_are_told_in_pixels_and_shares():
    table = pd.DataFrame([("a", 1, 900, 9, 0), ("b", 2, 100, 1, 25)], columns=LOSS_COLUMNS)
    assert tell_losses(table) == "2 masks of 1,000 pixels; 10 (1.00%) lost, 25 (2.50%) gained"
    assert tell_losses(table[:0]) == "0 masks of 0 pixels, exact to the pixel"
    assert tell_losses(table.assign(lost=0, gained=0)) == "2 masks of 1,000 pixels, exact to the pixel"


@pytest.fixture
def project(root, monkeypatch):
    """A fake dataset with a test part, an experiment on it, and the project as the current folder."""
    write_fake_competition(root / "input" / "fake")
    (root / "notebooks" / "experiments" / "mine.yml").write_text("dataset: fake\n")
    monkeypatch.chdir(root)
    return root


def test_both_parts_of_a_dataset_are_written_in_each_format(project, capsys, fake_writer):
    main(["convert", "mine", "--format=csv,fake", "--out=other/tool"])
    out = project / "other" / "tool"
    for part, csv in (("train", "train.csv"), ("test", "solution.csv")):
        expected = read_labels(project / "input" / "fake" / csv)
        pd.testing.assert_frame_equal(read_labels(out / "csv" / part / "labels.csv"), expected)
    assert (out / "fake" / "test" / "bar_012.txt").read_text() == "(37, 53, 2)"
    losses = pd.read_csv(out / "fake" / "losses.csv")
    assert losses.columns.tolist() == [*LOSS_COLUMNS, "part"]
    assert set(losses["part"]) == {"train", "test"}
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"fake: train and test part; the images stay in {project / 'input' / 'fake'}"
    assert said[1].startswith("  csv: ")
    assert said[1].endswith(" pixels, exact to the pixel")
    assert said[2] == "  fake: 13 masks of 780 pixels; 0 (0.00%) lost, 13 (1.67%) gained"
    assert said[3] == "  wrote other/tool/: csv fake"


def test_what_was_written_here_is_replaced_and_nothing_else(project):
    main(["convert", "fake", "--format=csv", "--out=out"])
    (project / "out" / "csv" / "old.txt").write_text("old")
    main(["convert", "fake", "--format=csv", "--out=out"])
    assert not (project / "out" / "csv" / "old.txt").exists()
    (project / "out" / "masks").mkdir()
    (project / "out" / "masks" / "mine.png").write_text("mine")
    with pytest.raises(ConfigError, match="out/masks is there and not written by this command"):
        main(["convert", "fake", "--format=csv,masks", "--out=out"])
    assert (project / "out" / "masks" / "mine.png").is_file()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["", "--format=csv", "--out=x"],
            "say NAME=<dataset or experiment> FORMAT=<one or more of coco,yolo,",
        ),
        (["fake", "--out=x"], "say NAME="),
        (["fake", "--format=csv"], "say NAME="),
        (["fake", "--format=csv", "--out=input/fake"], "input/ is read-only"),
        (["faek", "--format=csv", "--out=x"], "no dataset 'faek'"),
        (["sample", "--format=csv", "--out=x"], "`make input DATASET=sample` comes first"),
    ],
)
def test_a_conversion_that_cannot_be_is_refused(project, words, why):
    with pytest.raises(ValueError, match=why):
        main(["convert", *words])
    assert not (project / "x").exists()


def test_labels_without_an_image_file_are_left_out_and_counted(project, capsys):
    info = make_info().model_copy(update={"partial": True})
    (project / "input" / "fake" / "dataset.json").write_text(info.model_dump_json())
    for number in (1, 2):
        (project / "input" / "fake" / "train_images" / f"bar_00{number}.png").unlink()
    (project / "input" / "fake" / "solution.csv").unlink()
    main(["convert", "fake", "--format=csv", "--out=out"])
    said = capsys.readouterr().out
    assert "train.csv: 2 labelled images have no file, and are left out" in said
    assert "fake: train part" in said
    assert read_labels(project / "out" / "csv" / "train" / "labels.csv")["ImageId"].nunique() == 10


@pytest.fixture
def inspected(tmp_path) -> Path:
    """What an inspection of two pictures, one in a folder, and a broken one leaves that is read again."""
    masks = [("x/a.png", draw_masks()[0][1]), draw_masks()[1]]
    empty = pd.DataFrame({"class": []})
    rows = [describe_picture(image_id, mask, mask * 1.0, empty) for image_id, mask in masks]
    table = make_picture_table(rows, Listing(tmp_path, [], {}, {"c.png": "broken"}))
    table.to_csv(tmp_path / "pictures.csv", index=False)
    (tmp_path / "runs.csv").write_text(labels_to_text(masks_to_labels(masks), "current"))
    return tmp_path


def test_an_inspection_is_written_in_other_formats_beside_its_products(inspected, capsys, fake_writer):
    made = convert.export_inspection(inspected, INFO, ["masks", "csv", "fake"])
    assert made == [inspected / "fake"]
    assert (inspected / "fake" / "x_a.txt").read_text() == "(4, 6, 2)"
    assert (inspected / "fake" / "b.txt").read_text() == "(5, 3, 2)"
    assert capsys.readouterr().out == "  fake: 2 masks of 9 pixels; 0 (0.00%) lost, 2 (22.22%) gained\n"
    losses = pd.read_csv(inspected / "fake" / "losses.csv")
    assert losses.to_numpy().tolist() == [["x_a.png", 1, 5, 0, 1], ["x_a.png", 2, 4, 0, 1]]


def test_coco_names_images_by_their_path(inspected):
    convert.export_inspection(inspected, INFO, ["coco"])
    assert '"file_name": "x/a.png"' in (inspected / "coco" / "annotations.json").read_text()


def test_formats_of_an_earlier_inspection_do_not_stay_beside_another_one(inspected, fake_writer):
    convert.export_inspection(inspected, INFO, ["fake"])
    (inspected / "yolo").mkdir()
    write_image(inspected / "yolo" / "mine.png", np.zeros((4, 6), np.uint8))
    convert.export_inspection(inspected, INFO, [])
    assert not (inspected / "fake").exists()
    assert (inspected / "yolo" / "mine.png").is_file()
