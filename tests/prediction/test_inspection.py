"""Inspections: what is listed, refused and written, the cells of 06 on a network of one layer; tables."""

import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from defectmill import files
from defectmill.config import ConfigError, load_experiment
from defectmill.formats.masks.pixels import masks_from_colours
from defectmill.images import read_image, write_image
from defectmill.labels import read_labels
from defectmill.prediction import inspection
from defectmill.prediction.inspection import (
    COLUMNS,
    PICTURE_COLUMNS,
    PRODUCTS,
    Listing,
    list_defects,
    list_pictures,
    make_picture_table,
    name_products,
    order_pictures,
    summarize_defects,
)
from fake_competition import COLOURS, make_info
from fake_maps import write_dark_finder

NOTEBOOK = files.ROOT / "notebooks" / "06_infer.ipynb"


@pytest.fixture
def project(root) -> Path:
    """A project whose model takes dark pixels for class 1 and nothing for class 2, with an empty folder."""
    write_dark_finder(root)
    (root / "parts").mkdir()
    return root


def draw_part(path: Path, shape: tuple[int, int], *boxes: tuple[slice, slice]) -> None:
    """White, with black boxes."""
    picture = np.full(shape, 255, np.uint8)
    for box in boxes:
        picture[box] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
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


TABLES = ["defects.csv", "index.html", "pictures.csv", "runs.csv"]


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
    assert said.splitlines()[-2:] == [
        "4 pictures: 1 OK, 2 with defects, 1 unreadable",
        "whether the pictures are like those of the training is not known: training_statistics.json is "
        "missing, `make predict EXPERIMENT=fake` writes it",
    ]
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
    pictures = pd.read_csv(out / "pictures.csv", keep_default_na=False)
    assert pictures.columns.tolist() == PICTURE_COLUMNS
    assert pictures.to_numpy().tolist() == [
        ["TWO.BMP", "defect", "", "bar 1", "9", "7", "3", "4.7619", "1.0", "1", ""],
        ["broken.png", "unreadable", "not a readable image (8 bytes)", *[""] * 8],
        ["clean.png", "OK", "", "", "5", "8", "0", "0.0", "0.0", "0", ""],
        ["one.png", "defect", "", "bar 1", "12", "20", "28", "11.6667", "1.0", "2", ""],
    ]


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
    assert "1 picture: 1 OK, 0 with defects\n" in capsys.readouterr().out
    assert len(pd.read_csv(project / "found" / "defects.csv")) == 0
    rows = ["clean.png_1,", "clean.png_2,"] if layout == "2019" else []
    assert (project / "found" / "runs.csv").read_text().splitlines()[1:] == rows
    assert not read_image(project / "found" / "masks" / "clean.png").any()


def test_a_folder_of_broken_images_says_so_of_each(project, capsys):
    for name in ("a.png", "b.jpg"):
        (project / "parts" / name).write_bytes(b"")
    run_cells("parts", "found")
    assert "2 pictures: 0 OK, 0 with defects, 2 unreadable" in capsys.readouterr().out
    pictures = pd.read_csv(project / "found" / "pictures.csv")
    assert pictures["ImageId"].tolist() == ["a.png", "b.jpg"]
    assert pictures["verdict"].tolist() == ["unreadable"] * 2


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
        broken.setattr("defectmill.viz.contact_sheet.render_sheet", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_cells("parts", "found")
    assert everything(project / "found") == before
    assert (project / "found.part" / "masks" / "zzz.png").is_file()
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
    assert f"{project / 'no'} is no folder" in refuse(project, "no", "found")
    (project / "parts" / "inner").mkdir()
    for name in ("a.heic", "b.heic", "c.NEF", "inner/d.dcm", "notes.txt"):
        (project / "parts" / name).write_bytes(b"")
    why = refuse(project, "parts", "found")
    assert "parts and its folders hold no image (.jpg .jpeg .png" in why
    assert why.endswith("c.NEF (.nef is not read: save it as .png), ...")
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
    (project / "data" / "index.html").write_text("mine")
    assert "holds masks, index.html, which no inspection wrote" in refuse(project, "parts", "data")


def test_a_folder_below_the_images_gets_the_products_and_is_not_read_the_next_time(project):
    draw_part(project / "data" / "a.png", (5, 8))
    for _ in range(2):
        run_cells("data", "data/inspection")
        pictures = pd.read_csv(project / "data" / "inspection" / "pictures.csv")
        assert pictures["ImageId"].tolist() == ["a.png"]


def test_what_an_earlier_version_wrote_is_replaced(project):
    draw_part(project / "parts" / "a.png", (5, 8))
    for folder in ("masks", "overlays"):
        draw_part(project / "found" / folder / "old.png", (5, 8))
    for name in ("runs.csv", "defects.csv", "skipped.csv"):
        (project / "found" / name).write_text("old")
    run_cells("parts", "found")
    assert everything(project / "found") == sorted([*TABLES, "masks/a.png", "overlays/a.jpg"])


def test_images_in_folders_are_read_and_what_is_not_read_is_listed(project, tmp_path_factory):
    parts, elsewhere = project / "parts", tmp_path_factory.mktemp("elsewhere")
    for name in ("b.png", "left/a.png", "left/deep/b.png", "right/a.png", ".hidden.png", ".git/c.png"):
        draw_part(parts / name, (5, 8))
    for name in ("left/scan.HEIC", "right/notes.txt", "raw.dng"):
        (parts / name).write_bytes(b"")
    (parts / "old" / "masks").mkdir(parents=True)
    for name in PRODUCTS:
        (parts / "old" / name).mkdir(exist_ok=True)
    draw_part(parts / "old" / "masks" / "x.png", (5, 8))
    draw_part(parts / "out" / "masks" / "y.png", (5, 8))
    draw_part(parts / "out.part" / "masks" / "y.png", (5, 8))
    (parts / "linked").symlink_to(elsewhere)
    listing = list_pictures(parts, parts / "out")
    assert listing.folder == parts
    assert listing.image_ids == ["b.png", "left/a.png", "left/deep/b.png", "right/a.png"]
    assert listing.skipped == {
        "left/scan.HEIC": ".heic is not read: save it as .png",
        "linked": "a link to a folder, not followed",
        "old": "a folder with an inspection",
        "raw.dng": ".dng is not read: save it as .png",
    }


def test_products_of_images_in_folders_lie_flat_and_have_names_of_their_own(project, capsys):
    draw_part(project / "parts" / "a.png", (5, 8))
    draw_part(project / "parts" / "left" / "a.png", (6, 9), np.s_[0:2, 0:3])
    draw_part(project / "parts" / "left_a.png", (7, 10))
    (project / "parts" / "b.avif").write_bytes(b"")
    run_cells("parts", "found")
    assert everything(project / "found" / "masks") == ["2_left_a.png", "a.png", "left_a.png"]
    assert read_image(project / "found" / "masks" / "2_left_a.png").shape == (6, 9, 1)
    labels = read_labels(project / "found" / "runs.csv")
    assert labels["ImageId"].unique().tolist() == ["a.png", "left/a.png", "left_a.png"]
    said = capsys.readouterr().out
    assert "3 pictures: 2 OK, 1 with defects; 1 file skipped" in said
    pictures = pd.read_csv(project / "found" / "pictures.csv")
    assert pictures["verdict"].tolist() == ["OK", "defect", "OK", "skipped"]
    assert pictures["ImageId"].tolist()[-1] == "b.avif"


def test_names_of_products_are_never_shared():
    ids = ["a/b.png", "a/b.jpg", "a_b.png", "c/a/b.png", "c.png"]
    assert name_products(ids) == {
        "a_b.png": "a_b.png",
        "c.png": "c",
        "a/b.png": "2_a_b",
        "a/b.jpg": "a_b.jpg",
        "c/a/b.png": "c_a_b",
    }


def test_pictures_are_ordered_by_verdict_then_share_of_defect():
    rows = [
        {"ImageId": name, "verdict": "defect" if share else "OK", "area_percent": share, "height": 3}
        for name, share in (("a", 0.5), ("b", 0.0), ("c", 7.0))
    ]
    listing = Listing(Path("x"), [], {"0.svg": "why"}, {"bad": f"{Path('x/bad')}: no image"})
    table = make_picture_table(rows, listing)
    assert table["ImageId"].tolist() == ["a", "b", "bad", "c", "0.svg"]
    assert table["reason"].tolist() == ["", "", "no image", "", "why"]
    assert order_pictures(table)["ImageId"].tolist() == ["c", "a", "bad", "b", "0.svg"]


def test_a_table_of_no_pictures_has_all_columns():
    table = make_picture_table([], Listing(Path("x"), []))
    assert (len(table), table.columns.tolist()) == (0, PICTURE_COLUMNS)


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
