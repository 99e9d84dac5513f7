"""The label table of 12,568 images with its areas, and the shares of Table 2, beside doing it by hand."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.measuring import Row, compare, least_seconds, tell_time
from benchmarks.rle import decode_as_usual
from benchmarks.strings import SHAPE, read_strings
from defectmill.curation.audit import share_table
from defectmill.dataset_info import builtin_datasets
from defectmill.labels import read_labels
from defectmill.rle import rle_area

N_IMAGES, SHARES = 12_568, (0.0714, 0.0197, 0.4098, 0.0637)  # of Severstal's images, with each class
N_BY_HAND = 300  # images done one by one; all of them take alike


def measure() -> Iterator[Row]:
    """Measure reading, checking and counting a train.csv of all images, with real or drawn strings."""
    told, strings = read_strings()
    with tempfile.TemporaryDirectory() as folder:
        csv = Path(folder) / "train.csv"
        write_table(csv, strings, np.random.default_rng(0))
        (ours,) = least_seconds([make_tables], [csv], 3)
        table = pd.read_csv(csv, keep_default_na=False)
        ids = table["ImageId_ClassId"].str.rsplit("_", n=1).str[0].unique()[:: N_IMAGES // N_BY_HAND]
        by_image = (
            _seconds(lambda: [measure_image(table, image_id) for image_id in ids]) * N_IMAGES / len(ids)
        )
        by_row = _seconds(lambda: measure_rows(table[:: N_IMAGES // N_BY_HAND])) * len(table)
        by_row /= len(table[:: N_IMAGES // N_BY_HAND])
    what = f"labels of 12,568 x 4, areas and Table 2, {told}"
    yield compare(what, "row by row, masks drawn", (ours, by_row), 20)
    yield compare(what, "image by image, its rows looked up, masks drawn", (ours, by_image), 20)
    yield Row(what, "processor time", ours, 3, "s", tell_time(ours))


def _seconds(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


def write_table(csv: Path, strings: list[str], rng: np.random.Generator) -> None:
    """Write a train.csv with a row for every (image, class)."""
    has = (rng.random((N_IMAGES, len(SHARES))) < SHARES).ravel()
    cells = np.full(has.size, "", object)
    cells[has] = np.resize(np.array(strings, object), int(has.sum()))
    pairs = [f"{number:09x}.jpg_{class_id}" for number in range(N_IMAGES) for class_id in (1, 2, 3, 4)]
    pd.DataFrame({"ImageId_ClassId": pairs, "EncodedPixels": cells}).to_csv(csv, index=False)


def make_tables(csv: Path) -> tuple[pd.Series, pd.DataFrame]:
    """Ours: areas, and the shares of each image, all rows checked."""
    labels = read_labels(csv, n_classes=len(SHARES))
    shares = share_table(labels, csv.parent, builtin_datasets()["severstal"])
    return labels["EncodedPixels"].map(rle_area), shares


def measure_image(table: pd.DataFrame, image_id: str) -> list[float]:
    """As notebooks do: the rows of an image looked up, its masks drawn, their pixels added up."""
    rows = table[table["ImageId_ClassId"].str.startswith(image_id)]
    return [decode_as_usual(rle).sum() / np.prod(SHAPE) if rle else 0.0 for rle in rows["EncodedPixels"]]


def measure_rows(table: pd.DataFrame) -> list[tuple[str, int, float]]:
    """As notebooks do: each row's id taken apart, its mask drawn, its pixels added up."""
    rows = []
    for _, row in table.iterrows():
        image_id, class_id = row["ImageId_ClassId"].split("_")
        rle = row["EncodedPixels"]
        rows.append((image_id, int(class_id), decode_as_usual(rle).sum() / np.prod(SHAPE) if rle else 0.0))
    return rows
