"""Road cracks: CrackForest (.mat), CRACK500 crops, or any images/ with grey masks/.

CrackForest's codes: 1 ground, 2 crack; 3 and 4 mark large areas that are not cracks.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from defectmill.cards import Card
from defectmill.datasets.competition import DatasetError, Picture
from defectmill.datasets.pairs import (
    EMPTY,
    REFUSED,
    check_shapes,
    pair_files,
    read_grey_pair,
    refuse_orphans,
)
from defectmill.images import list_images

NOTES = ("of CrackForest's codes only 2 is crack",)
CRACK = 2


def read_raw(raw: Path, card: Card) -> Iterator[Picture]:
    """Read a folder of one source.

    Raises:
        DatasetError: none of the layouts, an orphan mask, a damaged file, sizes that differ.
    """
    if (raw / "groundTruth").is_dir():
        yield from _read_crackforest(raw)
        return
    for image, mask in pair_files(raw / "images", raw / "masks"):
        yield read_grey_pair(image, mask, 0, 1)


def _read_crackforest(raw: Path) -> Iterator[Picture]:
    names = list_images(raw / "image")
    truths = {path.stem: path for path in sorted((raw / "groundTruth").glob("*.mat"))}
    stems = {Path(name).stem for name in names}
    refuse_orphans([truths[stem] for stem in truths if stem not in stems], "picture")
    for name in names:
        path = raw / "image" / name
        truth = truths.get(path.stem)
        if truth is None:
            yield Picture(name, path, None)
            continue
        codes = _read_codes(truth)
        check_shapes(path, truth, codes)
        odd = {f"pixels of code {code}, no crack": int((codes == code).sum()) for code in (3, 4)}
        mask = (codes == CRACK).astype(np.uint8)[:, :, None]
        yield Picture(name, path, mask, odd={**REFUSED, **odd, EMPTY: int(not mask.any())})


def _read_codes(path: Path) -> np.ndarray:
    # SciPy says NotImplementedError of MATLAB's 7.3 format, and as many things of broken files.
    try:
        return loadmat(path)["groundTruth"][0, 0]["Segmentation"]
    except (MatReadError, ValueError, KeyError, IndexError, TypeError, NotImplementedError,
            EOFError) as error:  # fmt: skip
        raise DatasetError(f"{path}: not a CrackForest ground truth ({error})") from error
