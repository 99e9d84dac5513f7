"""The real files, where they lie beside the project (see DEFECTMILL_REALDATA)."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from defectmill.curation.audit import audit_labels, share_table
from defectmill.curation.duplicates import find_groups, scan_images
from defectmill.dataset_info import DatasetInfo, builtin_datasets
from defectmill.datasets import folder as colour_folder
from defectmill.datasets.competition import write_competition
from defectmill.datasets.magnetic_tile import read_raw
from defectmill.datasets.prepare import ADAPTERS
from defectmill.datasets.severstal import copy_raw
from defectmill.files import ROOT
from defectmill.images import list_images, read_image
from defectmill.labels import make_image_table, make_label_table, read_csv, read_labels, write_labels
from defectmill.rle import mask_to_rle, parse_runs, rle_to_mask
from defectmill.submission import check_submission, write_submission

DATA = Path(os.environ.get("DEFECTMILL_REALDATA") or ROOT.parent / "shared" / "data")
INFOS = builtin_datasets()
STEEL = DATA / "severstal"

pytestmark = [pytest.mark.realdata, pytest.mark.skipif(not STEEL.is_dir(), reason=f"no real data in {DATA}")]


@pytest.fixture(scope="module")
def real_runs() -> list[str]:
    """Every run cell of both files that holds something, each string once."""
    files = [read_csv(STEEL / f"train_{layout}.csv") for layout in ("2019", "current")]
    cells = pd.concat(files)["EncodedPixels"]
    return cells[cells != ""].unique().tolist()


def test_all_real_runs_round_trip_to_the_byte(real_runs):
    assert len(real_runs) > 3000
    for rle in real_runs:
        assert mask_to_rle(rle_to_mask(rle, (256, 1600))) == rle


def test_real_runs_cross_columns(real_runs):
    assert max(parse_runs(rle)[1].max() for rle in real_runs) > 10_000


@pytest.mark.parametrize("layout", ["2019", "current"])
def test_real_file_round_trips_to_the_byte(tmp_path, layout):
    source = STEEL / f"train_{layout}.csv"
    write_labels(read_labels(source, n_classes=4), tmp_path / "again.csv", layout)
    assert (tmp_path / "again.csv").read_bytes() == source.read_bytes()


def test_both_layouts_say_the_same_of_the_images_in_common():
    named = [set(read_csv(STEEL / f"train_{layout}.csv")["ImageId"]) for layout in ("2019", "current")]
    ids = sorted(named[0] & named[1])
    assert len(ids) > 3000
    tables = []
    for layout in ("2019", "current"):
        labels = read_labels(STEEL / f"train_{layout}.csv", n_classes=4).set_index("ImageId")
        tables.append(labels.loc[ids].reset_index())
    pd.testing.assert_frame_equal(*tables)


def test_labels_agree_with_the_flags_of_the_full_set():
    flags = pd.read_csv(STEEL / "class_flags_full.csv").set_index("ImageId_ClassId")
    labels = read_labels(STEEL / "train_2019.csv", n_classes=4)
    has = labels.pivot_table("hasMask", "ImageId", "ClassId", "any").astype(int)
    assert (has.to_numpy() == flags.loc[has.index].to_numpy()).all()


def test_images_of_another_format_than_their_name_are_read():
    folder = STEEL / "train_images"
    names = list_images(folder)
    png = [n for n in names if (folder / n).read_bytes()[:2] == b"\x89P" and n.endswith(".jpg")]
    assert png
    for name in [*png[:3], names[0]]:
        assert read_image(folder / name).shape == (256, 1600, 1)


def test_table_2_of_the_capstone_counts_masks_to_all_printed_digits(tmp_path):
    flags = pd.read_csv(STEEL / "class_flags_full.csv")
    labels = flags.melt("ImageId_ClassId", var_name="ClassId", value_name="EncodedPixels")
    labels["EncodedPixels"] = labels["EncodedPixels"].map({0: "", 1: "1 1"})
    labels = make_label_table(labels.itertuples(index=False))
    table = share_table(labels, tmp_path, INFOS["severstal"])
    assert list(table)[1:] == ["num_total_masks", "defect_0", "defect_1", "defect_2", "defect_3"]
    counts = table["num_total_masks"].describe()
    assert counts["count"] == 12568
    assert round(counts["mean"], 6) == 0.564529
    assert round(counts["std"], 6) == 0.560757
    assert counts["max"] == 3


def test_area_shares_agree_with_lengths_summed_off_the_file(tmp_path):
    rows = (STEEL / "train_2019.csv").read_text().splitlines()[1:]
    wanted: dict[str, list[float]] = {}
    for row in rows:
        pair, cell = row.split(",")
        lengths = [int(number) for number in cell.split()[1::2]]
        wanted.setdefault(pair[:-2], []).append(sum(lengths) / 409600)
    labels = read_labels(STEEL / "train_2019.csv", n_classes=4)
    table = share_table(labels, tmp_path, INFOS["severstal"]).set_index("ImageId")
    assert len(table) == 5621
    shares = table.loc[list(wanted), "defect_0":].to_numpy()
    np.testing.assert_array_equal(shares, list(wanted.values()))


@pytest.mark.parametrize("layout", ["2019", "current"])
def test_submission_to_the_real_sample_is_valid_in_its_layout(tmp_path, layout):
    sample = STEEL / f"sample_submission_{layout}.csv"
    ids = read_csv(sample)["ImageId"].unique()
    images = pd.DataFrame({"ImageId": ids, "height": 256, "width": 1600})
    predicted = pd.DataFrame(
        {"ImageId": ids[0], "ClassId": [1, 2, 3, 4], "EncodedPixels": ["1 3", "", "", ""]}
    )
    write_submission(predicted, tmp_path / "predicted.csv", sample)
    check_submission(tmp_path / "predicted.csv", sample, images)
    lines = (tmp_path / "predicted.csv").read_text().splitlines()
    assert lines[0] == sample.read_text().splitlines()[0]
    assert len(lines) == 1 + 4 * len(ids)


@pytest.mark.slow
def test_every_magnetic_tile_is_read_with_its_own_size():
    pictures = list(read_raw(DATA / "magnetic-tile", INFOS["magnetic-tile"]))
    assert len(pictures) == 1212
    heights, widths, _ = zip(*(p.masks.shape for p in pictures), strict=True)
    assert (min(heights), max(heights)) == (222, 403)
    assert (min(widths), max(widths)) == (103, 632)


def audit(folder: Path, info: DatasetInfo) -> pd.DataFrame:
    """Audit a competition folder: finding -> count, meaning, images, and the values of each."""
    pictures, ids = folder / "train_images", list_images(folder / "train_images")
    labels = read_labels(folder / "train.csv", ids, info.n_classes, partial=True)
    train = scan_images(pictures, ids)
    test = scan_images(folder / "test_images", list_images(folder / "test_images"))
    images = make_image_table(labels, train.table).assign(group=find_groups(train, info))
    run = SimpleNamespace(input=folder, info=info, labels=SimpleNamespace(n_folds=5))
    found, details = audit_labels(run, labels, images, train, test)
    values = details.groupby("finding")["value"].agg(list)
    return found.set_index("finding").assign(values=values)


def audit_some(tmp_path: Path, dataset: str, source: str, names: Iterable[str]) -> pd.DataFrame:
    """Run an adapter on the raw files whose stem is among `names`, all for training, and audit."""
    names, raw, info = set(names), tmp_path / "raw", INFOS[dataset]
    for path in (DATA / source).rglob("*"):
        link = raw / path.relative_to(DATA / source)
        if path.is_dir():
            link.mkdir(parents=True, exist_ok=True)
        elif path.stem in names:
            link.symlink_to(path)
    adapter = ADAPTERS.get(dataset, colour_folder)
    pictures = (replace(picture, part="train") for picture in adapter.read_raw(raw, info))
    write_competition(pictures, info, tmp_path / "input")
    return audit(tmp_path / "input", info)


@pytest.fixture(scope="module")
def steel(tmp_path_factory) -> pd.DataFrame:
    """The audit of what is there of Severstal."""
    folder = tmp_path_factory.mktemp("steel") / "severstal"
    copy_raw(STEEL, INFOS["severstal"], folder)
    return audit(folder, INFOS["severstal"])


def test_audit_tells_that_this_part_of_severstal_is_no_random_one(steel):
    lacks = steel.loc["published images that train.csv lacks"]
    assert lacks["count"] == 12568 - 5621
    assert "478 of 897, 135 of 247, 2550 of 5150, 526 of 801" in lacks["meaning"]
    several = steel.loc["images with several classes, more than published"]
    assert several["count"] == len(several["images"].split(" / ")) == 427
    assert "(13.1%); published 6.4% of 6666" in several["meaning"]


def test_audit_finds_png_bytes_in_both_parts_of_severstal(steel):
    names = steel.loc["suffix and content differ", "images"].split(" / ")
    expected = [
        f"{'test_images/' * (part == 'test')}{name}"
        for part in ("train", "test")
        for name in list_images(STEEL / f"{part}_images")
        if (STEEL / f"{part}_images" / name).read_bytes()[:2] == b"\x89P"
    ]
    assert names == expected
    assert len(expected) > 10


def test_audit_counts_the_empty_rows_of_the_2019_layout(steel, tmp_path):
    empty = "rows of train.csv without runs"
    assert steel.loc[empty, "count"] == 22484 - 3689
    assert len(steel.loc[empty, "images"].split(" / ")) == 5621
    (tmp_path / "raw").mkdir()
    for name in ("train_current.csv", "sample_submission_current.csv", "train_images", "test_images"):
        (tmp_path / "raw" / name).symlink_to(STEEL / name)
    copy_raw(tmp_path / "raw", INFOS["severstal"], tmp_path / "severstal")
    current = audit(tmp_path / "severstal", INFOS["severstal"])
    assert current.loc[empty, "count"] == 0
    # Clean images have no row: their files must not be lost.
    assert current.loc["images with several classes, more than published", "count"] == 427


def test_audit_tells_how_much_the_edges_of_magnetic_tile_masks_matter(tmp_path):
    stems = [p.stem for p in (DATA / "magnetic-tile" / "MT_Crack" / "Imgs").glob("*.jpg")]
    found = audit_some(tmp_path, "magnetic-tile", "magnetic-tile", stems)
    name = "grey mask of class 3"
    assert found.loc[name, "count"] == len(stems) == 40
    assert found.loc[name, "meaning"] == "area at > 0 is 2.87 times that at == 255"
    assert sum(found.loc[name, "values"]) == 23700 - 8253
    assert found.loc["sizes that differ from the commonest", "count"] > 30


def test_audit_finds_empty_masks_and_images_of_one_part_of_magnetic_tiles(tmp_path):
    stems = [p.stem for p in (DATA / "magnetic-tile" / "MT_Uneven" / "Imgs").glob("*.jpg")]
    found = audit_some(tmp_path, "magnetic-tile", "magnetic-tile", stems)
    empty = found.loc["empty mask in a defect class"]
    assert (empty["count"], empty["images"]) == (1, "exp4_num_124690.jpg")
    assert found.loc["near-duplicates or images of a part that has others", "count"] > 20


def test_audit_finds_what_is_wrong_in_crackforest(tmp_path):
    stems = ["042", "065", "001", "084", "102", "040", "201", "329"]
    found = audit_some(tmp_path, "crack", "crackforest", stems)
    assert found.loc["without labels", "images"] == "201.jpg / 329.jpg"
    assert found.loc["pixels of code 3", "images"] == "040.jpg / 084.jpg / 102.jpg"
    assert found.loc["pixels of code 4", "images"] == "084.jpg / 102.jpg"
    assert found.loc["same labels, different bytes", "images"] == "042.jpg / 065.jpg"
    assert found.loc["same bytes as another training image", "count"] == 0


def test_audit_finds_crops_of_one_photograph_and_masks_of_another_crop(tmp_path):
    """Not in the list that came with the data: some crops have the mask of the crop below."""
    stems = [f"20160222_114806_1281_{n}" for n in (1, 1081)]
    stems += ["IMG_2930_1297_969", "IMG_2930_1945_969", "20160222_081102_1281_721"]
    found = audit_some(tmp_path, "crack", "crack500", stems)
    crops = found.loc["near-duplicates or images of a part that has others", "images"]
    assert crops == " / ".join(f"{stem}.jpg" for stem in (*stems[:2], *stems[2:4]))
    reused = found.loc["same labels, different bytes", "images"]
    assert reused == " / ".join(f"{stem}.jpg" for stem in stems[:2])


def test_audit_finds_interpolated_colours_and_distorted_copies_of_mvtec_tiles(tmp_path):
    stems = [p.stem for p in (DATA / "mvtec-tile" / "images").iterdir() if "stroke" in p.stem]
    found = audit_some(tmp_path, "mvtec-tile", "mvtec-tile", stems)
    off = found.loc["mask pixels of a colour off the palette"]
    assert off["count"] == 3
    assert 0.002 < sum(off["values"]) / (len(stems) * 512 * 512) < 0.008
    copies = " / ".join(f"barrdistorted_{n}_0.3_0.3_gray_stroke_3.png" for n in (1001, 1004))
    assert found.loc["near-duplicates or images of a part that has others", "images"] == copies


def test_audit_finds_one_aluminum_image_with_two_labels_and_its_rims(tmp_path):
    found = audit_some(tmp_path, "aluminum", "aluminum", ["132", "339"])
    both = found.loc["same bytes, different labels"]
    assert (both["count"], both["images"]) == (2, "132.jpg / 339.jpg")
    assert both["values"] == pytest.approx([0.9588, 0.9588])
    assert "no model scores above 0.9966 on these" in both["meaning"]
    assert found.loc["mask pixels of a thin rim of another class", "count"] == 2
