"""The real files, where they lie beside the project (see DEFECTMILL_REALDATA)."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from defectmill.cards import CARDS
from defectmill.config import ROOT
from defectmill.datasets.magnetic_tile import read_raw
from defectmill.image_table import share_table
from defectmill.images import list_images, read_image
from defectmill.labels import read_csv, read_labels, write_labels
from defectmill.rle import mask_to_rle, parse_runs, rle_to_mask
from defectmill.submission import check_submission, write_submission

DATA = Path(os.environ.get("DEFECTMILL_REALDATA") or ROOT.parent / "shared" / "data")
STEEL = DATA / "severstal"

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not STEEL.is_dir(), reason=f"no real data in {DATA}"),
]


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
    ids = sorted({*read_csv(STEEL / "train_current.csv")["ImageId"]}
                 & {*read_csv(STEEL / "train_2019.csv")["ImageId"]})  # fmt: skip
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


def test_pictures_of_another_format_than_their_name_are_read():
    folder = STEEL / "train_images"
    names = list_images(folder)
    png = [n for n in names if (folder / n).read_bytes()[:2] == b"\x89P" and n.endswith(".jpg")]
    assert png
    for name in [*png[:3], names[0]]:
        assert read_image(folder / name).shape == (256, 1600, 1)


def test_table_2_of_the_capstone_counts_masks_to_all_printed_digits(tmp_path):
    flags = pd.read_csv(STEEL / "class_flags_full.csv")
    labels = flags.melt("ImageId_ClassId", var_name="ClassId", value_name="EncodedPixels")
    labels = labels.rename(columns={"ImageId_ClassId": "ImageId"}).astype({"ClassId": int})
    labels["EncodedPixels"] = labels["EncodedPixels"].map({0: "", 1: "1 1"})
    table = share_table(labels, tmp_path, CARDS["severstal"])
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
    table = share_table(labels, tmp_path, CARDS["severstal"]).set_index("ImageId")
    assert len(table) == 5621
    shares = table.loc[list(wanted), "defect_0":].to_numpy()
    np.testing.assert_array_equal(shares, list(wanted.values()))


@pytest.mark.parametrize("layout", ["2019", "current"])
def test_all_clean_answer_to_the_real_sample_is_valid_in_its_layout(tmp_path, layout):
    sample = STEEL / f"sample_submission_{layout}.csv"
    ids = read_csv(sample)["ImageId"].unique()
    images = pd.DataFrame({"ImageId": ids, "height": 256, "width": 1600})
    answers = pd.DataFrame(
        {"ImageId": ids[0], "ClassId": [1, 2, 3, 4], "EncodedPixels": ["1 3", "", "", ""]}
    )
    write_submission(answers, tmp_path / "answer.csv", sample)
    check_submission(tmp_path / "answer.csv", sample, images)
    lines = (tmp_path / "answer.csv").read_text().splitlines()
    assert lines[0] == sample.read_text().splitlines()[0]
    assert len(lines) == 1 + 4 * len(ids)


@pytest.mark.slow
def test_every_magnetic_tile_is_read_with_its_own_size():
    pictures = list(read_raw(DATA / "magnetic-tile", CARDS["magnetic-tile"]))
    assert len(pictures) == 1212
    heights, widths, _ = zip(*(p.masks.shape for p in pictures), strict=True)
    assert (min(heights), max(heights)) == (222, 403)
    assert (min(widths), max(widths)) == (103, 632)
