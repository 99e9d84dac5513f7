"""Inspections: what is refused, what is written, the cells of 06 on a network of one layer; defect tables."""

import json
import re
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from defectmill import files
from defectmill.config import ConfigError, load_experiment
from defectmill.images import masks_from_colours, read_image, write_image
from defectmill.labels import read_labels
from defectmill.prediction import inspection
from defectmill.prediction.inspection import COLUMNS, list_defects, summarize_defects
from defectmill.prediction.postprocess import ClassThreshold
from defectmill.prediction.thresholds import write_thresholds
from fake_competition import COLOURS, make_info
from fake_maps import save_network

NOTEBOOK = files.ROOT / "notebooks" / "06_infer.ipynb"


@pytest.fixture
def project(root) -> Path:
    """A project whose model takes dark pixels for class 1 and nothing for class 2."""
    info = make_info()
    (root / "input" / "fake").mkdir()
    (root / "input" / "fake" / "dataset.json").write_text(info.model_dump_json())
    (root / "notebooks" / "experiments" / "fake.yml").write_text(
        "dataset: fake\ndata: {scale: 1.0}\npredict: {flips: []}\n"
    )
    (root / "output" / "fake").mkdir(parents=True)
    inputs = keras.Input((None, None, 1))
    dark = keras.layers.Rescaling(-1 / 255, offset=1.0)(inputs)
    none = keras.layers.Rescaling(0.0)(inputs)
    model = keras.Model(inputs, keras.layers.Concatenate()([dark, none]))
    save_network("fake", model)
    thresholds = [ClassThreshold(0.5, 0.5, 2), ClassThreshold(0.5, 0.5, 0)]
    write_thresholds(thresholds, info, root / "output" / "fake" / "thresholds.json")
    (root / "parts").mkdir()
    return root


def draw_part(path: Path, shape: tuple[int, int], *boxes: tuple[slice, slice]) -> None:
    """White, with black boxes."""
    picture = np.full(shape, 255, np.uint8)
    for box in boxes:
        picture[box] = 0
    path.parent.mkdir(exist_ok=True)
    write_image(path, picture)


def run_cells(images: str, out: str) -> dict:
    """Run the code cells of 06 as a notebook would; returns its names."""
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    names: dict = {}
    sources[0] = f"experiment, overrides, images, out = 'fake', {{}}, {images!r}, {out!r}"
    for source in sources:
        exec(source, names)
    plt.close("all")
    return names


def everything(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


TABLES = ["defects.csv", "runs.csv", "skipped.csv"]


def test_a_folder_becomes_masks_overlays_and_tables(project, capsys):
    draw_part(project / "parts" / "one.png", (12, 20), np.s_[2:5, 3:9], np.s_[8:10, 15:20])
    draw_part(project / "parts" / "TWO.BMP", (9, 7), np.s_[4:5, 1:3], np.s_[5:6, 1:2])
    draw_part(project / "parts" / "clean.png", (5, 8))
    (project / "parts" / "broken.png").write_bytes(b"no image")
    run_cells("parts", "found/here")
    out = project / "found" / "here"
    pictures = ["TWO", "clean", "one"]
    products = [part for p in pictures for part in (f"masks/{p}.png", f"overlays/{p}.jpg")]
    assert everything(project / "found") == sorted(f"here/{product}" for product in [*TABLES, *products])
    said = capsys.readouterr().out
    assert "4 images, 1 of them could not be read" in said
    assert "2 images with 3 defects" in said
    expected = np.zeros((12, 20), np.uint8)
    expected[2:5, 3:9] = expected[8:10, 15:20] = 1
    drawn, n_off = masks_from_colours(read_image(out / "masks" / "one.png", 3), COLOURS[:2])
    assert n_off == 0
    np.testing.assert_array_equal(drawn[:, :, 0], expected)
    assert not drawn[:, :, 1].any()
    tinted = read_image(out / "overlays" / "one.jpg", 3)
    assert tinted.shape == (12, 20, 3)
    assert tinted[3, 5, 0] > tinted[3, 5, 2] + 30  # yellowish
    labels = read_labels(out / "runs.csv")
    assert labels["ImageId"].unique().tolist() == ["TWO.BMP", "clean.png", "one.png"]
    assert labels.loc[labels["hasMask"], "EncodedPixels"].iloc[0] == "14 2 23 1"
    defects = pd.read_csv(out / "defects.csv")
    assert defects.columns.tolist() == COLUMNS
    assert defects.to_numpy().tolist() == [
        ["TWO.BMP", 1, "bar 1", 3, 4, 1, 2, 2, 4.3333, 1.3333, 1.0],
        ["one.png", 1, "bar 1", 18, 2, 3, 3, 6, 3.0, 5.5, 1.0],
        ["one.png", 1, "bar 1", 10, 8, 15, 2, 5, 8.5, 17.0, 1.0],
    ]
    (skipped,) = pd.read_csv(out / "skipped.csv").to_numpy().tolist()
    assert skipped[0] == "broken.png"
    assert "not a readable image (8 bytes)" in skipped[1]


def test_images_of_one_stem_keep_both_masks(project):
    draw_part(project / "parts" / "a.png", (6, 9), np.s_[0:2, 0:2])
    draw_part(project / "parts" / "a.bmp", (5, 7), np.s_[3:5, 3:7])
    run_cells("parts", "found")
    assert everything(project / "found" / "masks") == ["a.bmp.png", "a.png.png"]
    assert read_image(project / "found" / "masks" / "a.bmp.png").shape == (5, 7, 1)


@pytest.mark.parametrize("layout", ["2019", "current"])
def test_no_defect_at_all_is_said_and_written(project, capsys, monkeypatch, layout):
    monkeypatch.setattr(inspection.shutil, "move", None)  # a new folder is renamed as a whole
    info = make_info(layout=layout)
    (project / "input" / "fake" / "dataset.json").write_text(info.model_dump_json())
    draw_part(project / "parts" / "clean.png", (5, 8))
    run_cells("parts", "found")
    assert "No defect was found." in capsys.readouterr().out
    assert len(pd.read_csv(project / "found" / "defects.csv")) == 0
    rows = ["clean.png_1,", "clean.png_2,"] if layout == "2019" else []
    assert (project / "found" / "runs.csv").read_text().splitlines()[1:] == rows
    assert not read_image(project / "found" / "masks" / "clean.png").any()


def test_a_folder_of_broken_images_says_so_of_each(project, capsys):
    for name in ("a.png", "b.jpg"):
        (project / "parts" / name).write_bytes(b"")
    run_cells("parts", "found")
    assert "2 images, 2 of them could not be read" in capsys.readouterr().out
    skipped = pd.read_csv(project / "found" / "skipped.csv")
    assert skipped["ImageId"].tolist() == ["a.png", "b.jpg"]


def test_a_second_inspection_replaces_the_first_and_leaves_the_rest(project):
    draw_part(project / "parts" / "old.png", (5, 8))
    run_cells("parts", "found")
    (project / "found" / "notes.txt").write_text("mine")
    (project / "parts" / "old.png").rename(project / "parts" / "new.png")
    run_cells("parts", "found")
    products = [*TABLES, "masks/new.png", "overlays/new.jpg"]
    assert everything(project / "found") == sorted([*products, "notes.txt"])
    assert read_labels(project / "found" / "runs.csv")["ImageId"].unique().tolist() == ["new.png"]
    assert not (project / "found.part").exists()


def test_an_inspection_cut_short_leaves_the_last_one_whole_and_nothing_to_the_next(project, monkeypatch):
    draw_part(project / "parts" / "old.png", (5, 8))
    run_cells("parts", "found")
    before = everything(project / "found")
    draw_part(project / "parts" / "zzz.png", (5, 8))
    with monkeypatch.context() as broken:
        broken.setattr(inspection, "list_defects", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_cells("parts", "found")
    assert everything(project / "found") == before
    (project / "parts" / "old.png").unlink()
    run_cells("parts", "found")
    assert [p.name for p in (project / "found" / "masks").iterdir()] == ["zzz.png"]


def refuse(project: Path, images: str, out: str) -> str:
    with pytest.raises(ConfigError) as raised:
        inspection.check_inspection(load_experiment("fake"), images, out)
    return str(raised.value)


def test_a_missing_product_is_named_with_the_target_that_makes_it(project):
    draw_part(project / "parts" / "a.png", (5, 8))
    (project / "output" / "fake" / "thresholds.json").unlink()
    why = refuse(project, "parts", "found")
    assert re.search(r"thresholds\.json is missing: `make predict EXPERIMENT=fake`", why)
    (project / "output" / "fake" / "model.keras").unlink()
    why = refuse(project, "parts", "found")
    assert re.search(r"model\.keras is missing: `make train EXPERIMENT=fake`", why)


def test_folders_without_images_are_refused(project):
    assert "IMAGES=no" in refuse(project, "no", "found")
    assert "is no folder" in refuse(project, "no", "found")
    assert "holds no image" in refuse(project, "parts", "found")
    assert "say IMAGES=" in refuse(project, "", "found")
    assert "say IMAGES=" in refuse(project, "parts", "")


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("parts", "over the images"),
        ("parts/../parts", "over the images"),
        (".", "holds the project"),
        ("/", "holds the project"),
        ("input", "read-only"),
        ("input/fake/inspection", "read-only"),
        ("notebooks/experiments/fake.yml", "is a file"),
    ],
)
def test_an_out_that_would_write_over_something_is_refused(project, out, why):
    draw_part(project / "parts" / "a.png", (5, 8))
    assert why in refuse(project, "parts", out)


def test_a_dataset_that_is_a_link_is_as_read_only(project, tmp_path_factory):
    disk = tmp_path_factory.mktemp("other disk")
    (disk / "steel" / "train_images").mkdir(parents=True)
    (project / "input" / "steel").symlink_to(disk / "steel")
    (project / "input" / "fake" / "train_images").symlink_to(disk / "steel" / "train_images")
    draw_part(project / "parts" / "a.png", (5, 8))
    for out in ("input/steel/x", str(disk / "steel" / "x"), "input/fake/train_images/x"):
        assert "read-only" in refuse(project, "parts", out)
    (project / "input" / "steel").unlink()
    assert "read-only" in refuse(project, "parts", "input/fake/train_images/x")


@pytest.mark.parametrize("images", ["data/masks", "data/overlays/deep", "data.part"])
def test_images_in_the_way_of_the_products_are_refused(project, images):
    (project / images).mkdir(parents=True)
    draw_part(project / images / "a.png", (5, 8))
    assert "over the images" in refuse(project, images, "data")


def test_a_folder_of_the_users_is_never_worked_in(project):
    draw_part(project / "parts" / "a.png", (5, 8))
    (project / "found.part").mkdir()
    (project / "found.part" / "mine.txt").write_text("mine")
    assert "holds mine.txt" in refuse(project, "parts", "found")
    assert (project / "found.part" / "mine.txt").is_file()


def test_masks_that_no_inspection_wrote_are_never_replaced(project):
    for folder in ("data", "data/masks", "parts"):
        draw_part(project / folder / "a.png", (5, 8))
    assert "holds masks, which no inspection wrote" in refuse(project, "parts", "data")
    run_cells("data", "data/inspection")
    assert (project / "data" / "inspection" / "masks" / "a.png").is_file()


def test_relative_folders_begin_at_the_project_and_others_stand(project, tmp_path_factory):
    other = tmp_path_factory.mktemp("other disk")
    draw_part(project / "parts" / "a.png", (5, 8))
    draw_part(other / "pictures" / "a.png", (5, 8))
    experiment = load_experiment("fake")
    found = inspection.check_inspection(experiment, "parts", str(other / "out"))
    assert found == (project / "parts", other / "out")
    found = inspection.check_inspection(experiment, str(other / "pictures"), "out")
    assert found == (other / "pictures", project / "out")


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """6 rows, 9 columns. Of class 1 a pixel at the top right; of class 2 a bar, and two pixels that touch
    at a corner."""
    masks, probs = np.zeros((6, 9, 2), np.uint8), np.zeros((6, 9, 2), np.float32)
    masks[0, 8, 0] = masks[3, 1, 1] = masks[4, 2, 1] = 1
    masks[1:3, 4:8, 1] = 1
    probs[0, 8, 0] = 0.5
    probs[3, 1, 1], probs[4, 2, 1] = 0.5, 1.0
    probs[1:3, 4:8, 1] = 0.75
    probs[5, :, :] = 0.9  # outside every mask
    return masks, probs


def test_each_component_is_a_row_the_largest_of_its_class_first(drawn):
    found = list_defects("a.png", *drawn, make_info())
    assert found.columns.tolist() == COLUMNS
    assert [tuple(row) for row in found.itertuples(index=False)] == [
        ("a.png", 1, "bar 1", 1, 0, 8, 1, 1, 0.0, 8.0, 0.5),
        ("a.png", 2, "bar 2", 8, 1, 4, 2, 4, 1.5, 5.5, 0.75),
        ("a.png", 2, "bar 2", 2, 3, 1, 2, 2, 3.5, 1.5, 0.75),
    ]


def test_larger_component_below_a_smaller_one_comes_first():
    masks = np.zeros((6, 9, 2), np.uint8)
    masks[0, 0, 0] = masks[3:5, 3:7, 0] = 1
    assert list_defects("a.png", masks, masks * 0.5, make_info())["area"].tolist() == [8, 1]


def test_clean_image_has_an_empty_table_with_all_columns():
    nothing = np.zeros((6, 9, 2))
    found = list_defects("a.png", nothing.astype(np.uint8), nothing, make_info())
    assert (len(found), found.columns.tolist()) == (0, COLUMNS)
    assert summarize_defects(found).empty


@pytest.mark.parametrize("shape", [(6, 9, 1), (9, 6, 2), (6, 9, 3)])
def test_maps_that_do_not_fit_the_masks_are_refused(drawn, shape):
    with pytest.raises(files.DefectmillError, match=r"a\.png: masks \(6, 9, 2\) and probabilities"):
        list_defects("a.png", drawn[0], np.zeros(shape), make_info())


def test_classes_beyond_the_datasets_are_refused(drawn):
    with pytest.raises(files.DefectmillError, match="of 3 classes"):
        list_defects("a.png", *drawn, make_info(n_classes=3))


def test_summary_counts_defects_and_images_of_each_class(drawn):
    summary = summarize_defects(list_defects("a.png", *drawn, make_info()))
    assert summary.reset_index().to_numpy().tolist() == [
        [1, "bar 1", 1, 1, 1, 1.0, 1],
        [2, "bar 2", 2, 1, 2, 5.0, 8],
    ]
    assert summary.columns.tolist() == ["defects", "images", "smallest", "median", "largest"]
