"""What is measured does the same as what it is measured against; nothing here is timed."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from benchmarks import labels, rle, starts, strings, thresholds
from benchmarks.measuring import Row, compare, tell_time
from defectmill.files import ROOT
from defectmill.rle import mask_to_rle


def test_all_decoders_and_encoders_agree():
    extremes = [mask_to_rle(mask) for mask in rle.make_extremes().values()]
    assert [extremes[0], extremes[2]] == ["204901 1", "1 409600"]
    for text in [*strings.draw_strings(5, np.random.default_rng(1)), *extremes]:
        mask = rle.decode(text)
        for decode in (rle.decode_as_usual, rle.decode_by_coco):
            np.testing.assert_array_equal(decode(text), mask)
        for encode in (mask_to_rle, rle.encode_as_usual, rle.encode_by_coco):
            assert encode(mask) == text


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("expected", [(), thresholds.EXPECTED])
def test_the_threshold_search_counts_to_the_pixel_what_it_always_did(exclusive, expected):
    maps = [*thresholds.draw_maps(8, np.random.default_rng(2))]
    assert sum(truth.any(axis=(0, 1)).sum() for _, truth in maps) > 3
    found = thresholds.search(maps, exclusive, expected)
    former = thresholds.search_as_before(maps, found.class_thresholds, exclusive)
    np.testing.assert_array_equal(found.counts, former)
    assert len(np.unique(former[..., 2].sum(axis=0))) > 50


def test_a_row_is_reached_from_its_own_side():
    assert compare("a", "b", [0.5, 2], 4) == Row("a", "b", 4, 4, note="500 ms against 2 s")
    assert [Row("a", "b", ratio, 3).is_reached for ratio in (2.9, 3)] == [False, True]
    assert [Row("a", "b", ratio, 3, "times as long").is_reached for ratio in (3, 3.1)] == [True, False]
    assert [*map(tell_time, (2e-6, 0.0354, 12.34))] == ["2 us", "35.4 ms", "12.3 s"]


@pytest.mark.parametrize("only", ["speed", "rle labels"])
def test_a_part_that_is_not_there_is_refused(only):
    path = os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", f"--only={only}"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: ONLY={only} is no part of the benchmarks: one of rle")


def test_the_shares_of_ours_are_those_of_masks_drawn_row_by_row(tmp_path, monkeypatch):
    monkeypatch.setattr(labels, "N_IMAGES", 40)
    labels.write_table(tmp_path / "t.csv", ["1 3", "5 409596"], np.random.default_rng(0))
    areas, shares = labels.make_tables(tmp_path / "t.csv")
    table = pd.read_csv(tmp_path / "t.csv", keep_default_na=False)
    wanted = [share for *_, share in labels.measure_rows(table)]
    assert sum(wanted) > 0
    assert shares["num_total_masks"].sum() == np.count_nonzero(wanted)
    assert shares.iloc[:, 2:].to_numpy().ravel().tolist() == wanted
    assert (areas / 409600).tolist() == wanted
    ids = shares["ImageId"]
    assert [share for i in ids for share in labels.measure_image(table, i)] == wanted


@pytest.mark.parametrize("notebook", ["01_eda", "02_labels"])
def test_the_imports_of_a_notebook_are_found(notebook):
    lines = starts.list_imports(notebook).splitlines()
    assert "from defectmill.config import load_experiment" in lines
    assert len(lines) > 4
    assert all(line.startswith(("from ", "import ")) for line in lines)
