"""The audit finds each oddity that was planted, with its file name, and nothing else."""

import shutil

import numpy as np
import pandas as pd
import pytest

from defectmill.audit import audit_labels
from defectmill.image_table import make_image_table
from defectmill.images import write_image
from defectmill.labels import read_labels

FILES = "files without a row in the label table"
SUFFIX = "suffix and content differ"
COPIES = "same bytes as another image"
CONTRADICTIONS = "same bytes, different labels"
OVERLAPS = "classes overlap"
SIZES = "sizes that differ from the commonest"
TWINS = "near-duplicates or shots of a part that has others"


@pytest.fixture
def audit(tmp_path, table_file):
    """Audit four pictures of 5 x 9 with these rows: {finding: (count, examples)}."""
    folder = tmp_path / "images"
    folder.mkdir()
    for n in range(4):
        image = np.random.default_rng(n).integers(0, 256, (5, 9), np.uint8)
        write_image(folder / f"{n}.png", image)

    def run(*rows: str, groups: list[int] | None = None, n_folds: int = 1) -> dict:
        csv = table_file("ImageId,ClassId,EncodedPixels", *rows)
        ids = sorted(p.name for p in folder.iterdir() if not p.name.startswith("orphan"))
        labels = read_labels(csv, ids, n_classes=2)
        images = make_image_table(folder, labels)
        images["group"] = range(len(images)) if groups is None else groups
        found = audit_labels(labels, images, folder, n_folds)
        assert isinstance(found, pd.DataFrame)
        return {what: (count, names) for what, count, names in found.itertuples(index=False)}

    run.folder = folder
    return run


GOOD = ["0.png,1,1 3", "1.png,1,1 3", "1.png,2,4 2", "2.png,2,1 45"]


def test_clean_dataset_has_no_findings(audit):
    expected = dict.fromkeys(
        (FILES, SUFFIX, COPIES, CONTRADICTIONS, OVERLAPS, SIZES, TWINS), (0, "")
    )
    assert audit(*GOOD) == expected


def test_file_without_a_row_is_found(audit):
    shutil.copy(audit.folder / "0.png", audit.folder / "orphan.png")
    assert audit(*GOOD)[FILES] == (1, "orphan.png")


def test_png_bytes_named_jpg_are_found(audit):
    (audit.folder / "3.png").rename(audit.folder / "3.jpg")
    assert audit(*GOOD)[SUFFIX] == (1, "3.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".bmp"])
def test_honest_suffix_is_no_finding(audit, suffix):
    write_image(audit.folder / f"9{suffix}", np.zeros((5, 9), np.uint8))
    assert audit(*GOOD)[SUFFIX] == (0, "")


def test_copies_with_the_same_labels_do_not_contradict(audit):
    shutil.copy(audit.folder / "0.png", audit.folder / "4.png")
    found = audit(*GOOD, "4.png,1,1 3")
    assert found[COPIES] == (2, "0.png 4.png")
    assert found[CONTRADICTIONS] == (0, "")


@pytest.mark.parametrize("other", ["4.png,1,1 4", "4.png,2,1 3", ""])
def test_copies_with_other_labels_contradict(audit, other):
    shutil.copy(audit.folder / "0.png", audit.folder / "4.png")
    assert audit(*GOOD, *filter(None, [other]))[CONTRADICTIONS] == (2, "0.png 4.png")


def test_classes_that_share_a_pixel_are_found(audit):
    assert audit(*GOOD, "3.png,1,1 3", "3.png,2,3 1")[OVERLAPS] == (1, "3.png")


def test_odd_size_is_found(audit):
    write_image(audit.folder / "3.png", np.zeros((9, 5), np.uint8))
    assert audit(*GOOD)[SIZES] == (1, "3.png")


def test_groups_of_several_are_counted_by_image(audit):
    assert audit(*GOOD, groups=[0, 1, 0, 2])[TWINS] == (2, "0.png 2.png")


def test_five_examples_are_named(audit):
    for n in range(4, 8):
        shutil.copy(audit.folder / "3.png", audit.folder / f"{n}.png")
    shutil.copy(audit.folder / "3.png", audit.folder / "8.png")
    assert audit(*GOOD)[COPIES] == (6, "3.png 4.png 5.png 6.png 7.png")


def test_class_with_fewer_groups_than_folds_is_found(audit):
    found = audit(*GOOD, groups=[0, 0, 1, 2], n_folds=2)
    assert found["class 1: fewer groups than folds"] == (1, "")
    assert "class 2: fewer groups than folds" not in found


def test_class_that_nobody_has_is_found(audit):
    assert audit("0.png,1,1 3")["class 2: fewer groups than folds"] == (0, "")
