"""Shots: what the files of a folder are, each read once.

A shot is known by its bytes (digest) and by its fine structure (print); see `picture_print`.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from defectmill.images import decode_image, picture_print

SIGNATURES = {b"\xff\xd8": {".jpg", ".jpeg"}, b"\x89P": {".png"}, b"BM": {".bmp"}}
PRINT = 4096  # numbers in a print


class Shots(NamedTuple):
    """The pictures of a folder.

    table: one row a picture: ImageId, height, width, digest of its bytes, and two flags: blank
    (all pixels have one value) and lies (the suffix tells another format). prints: (N, 4096)
    float32, see `picture_print`.
    """

    table: pd.DataFrame
    prints: np.ndarray


def read_shots(folder: Path, image_ids: Sequence[str]) -> Shots:
    """Read every file once.

    Raises:
        ImageError: a file that is no picture.
    """
    with ThreadPoolExecutor() as pool:
        shots = list(pool.map(lambda image_id: _read_shot(folder / image_id), image_ids))
    rows = [(image_id, *facts) for image_id, (facts, _) in zip(image_ids, shots, strict=True)]
    columns = ["ImageId", "height", "width", "digest", "blank", "lies"]
    table = pd.DataFrame(rows, columns=columns).astype({"blank": bool, "lies": bool})
    prints = [shot for _, shot in shots]
    return Shots(table, np.stack(prints) if prints else np.zeros((0, PRINT), np.float32))


def _read_shot(path: Path) -> tuple[tuple, np.ndarray]:
    data = np.fromfile(path, np.uint8)
    image = decode_image(data, path)
    suffixes = SIGNATURES.get(data[:2].tobytes(), {path.suffix.lower()})
    facts = (
        *image.shape[:2], hashlib.sha256(data).hexdigest(), bool(image.min() == image.max()),
        path.suffix.lower() not in suffixes,
    )  # fmt: skip
    return facts, picture_print(image)
