"""Fixtures that several test modules share."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

# Drawn inputs are the same in every run, so that what passes passes everywhere; `make fuzz` draws others.
settings.register_profile("house", deadline=None, derandomize=True, database=None)
settings.load_profile("house")

# As make does: albumentations asks the network at import, TensorFlow talks.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.pop("DEFECTMILL_HOME", None)  # make says it; projects that tests make are others


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder that the whole package takes for its own."""
    from defectmill import files

    monkeypatch.setattr(files, "ROOT", tmp_path)
    monkeypatch.setattr(files, "PACKAGE", tmp_path / "src" / "defectmill")
    (tmp_path / "notebooks" / "experiments").mkdir(parents=True)
    (tmp_path / "input").mkdir()
    return tmp_path


@pytest.fixture
def table_file(tmp_path: Path) -> Callable[..., Path]:
    """Write lines as a CSV file: table_file("a,b", "1,2", name="x.csv")."""

    def write(*lines: str, name: str = "table.csv", end: str = "\n", bom: bool = False) -> Path:
        path = tmp_path / name
        text = "".join(line + end for line in lines)
        path.write_bytes(text.encode("utf-8-sig" if bom else "utf-8"))
        return path

    return write


@pytest.fixture
def competition(tmp_path: Path) -> tuple[pd.DataFrame, pd.DataFrame, Path]:
    """Label table, image table and folder of five grey images of three sizes; the first two have a bright
    defect of class 2 at (5, 7)."""
    from defectmill.images import write_image
    from defectmill.labels import make_label_table
    from defectmill.rle import mask_to_rle

    rows, images = [], []
    for n, shape in enumerate([(24, 40), (24, 40), (30, 20), (24, 33), (24, 40)]):
        image, mask = np.full(shape, 10 * n, np.uint8), np.zeros(shape, np.uint8)
        if n < 2:
            image[4:8, 6:10], mask[4:8, 6:10] = 250, 1
        write_image(tmp_path / f"{n}.png", image)
        rows += [(f"{n}.png", 1, ""), (f"{n}.png", 2, mask_to_rle(mask))]
        images.append((f"{n}.png", *shape, "2" if n < 2 else ""))
    return (
        make_label_table(rows),
        pd.DataFrame(images, columns=["ImageId", "height", "width", "classes"]),
        tmp_path,
    )
