"""Shots tell what a file is by its bytes."""

import numpy as np
import pytest

from defectmill.images import ImageError, write_image
from defectmill.shots import read_shots


def test_shots_are_told_in_the_order_asked_for(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (5, 9), np.uint8)
    write_image(tmp_path / "b.png", noise)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "b.png").read_bytes())
    write_image(tmp_path / "c.bmp", np.full((9, 5), 3, np.uint8))
    table, prints = read_shots(tmp_path, ["b.png", "c.bmp", "a.jpg"])
    assert table["ImageId"].tolist() == ["b.png", "c.bmp", "a.jpg"]
    assert table[["height", "width"]].to_numpy().tolist() == [[5, 9], [9, 5], [5, 9]]
    assert table["blank"].tolist() == [False, True, False]
    assert table["lies"].tolist() == [False, False, True]
    assert table["digest"][0] == table["digest"][2] != table["digest"][1]
    assert (prints.shape, prints.dtype) == ((3, 4096), np.float32)
    assert prints[0] @ prints[2] == pytest.approx(1)


def test_no_pictures_make_empty_tables(tmp_path):
    table, _ = read_shots(tmp_path, [])
    assert (len(table), "digest" in table) == (0, True)


def test_file_that_is_no_picture_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no")
    with pytest.raises(ImageError, match=r"a\.jpg: not a readable picture"):
        read_shots(tmp_path, ["a.jpg"])
