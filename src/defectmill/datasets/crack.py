"""Road cracks: CrackForest (.mat), CRACK500 crops, or any images with masks in folders."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from defectmill.dataset_info import DatasetInfo
from defectmill.datasets import folder
from defectmill.datasets.competition import DatasetError, Picture
from defectmill.datasets.folder import EMPTY, REFUSED, fit_image, pair_stems
from defectmill.files import DefectmillError, check_file
from defectmill.images import list_images

CRACK = 2  # of CrackForest's codes; 1 is ground, and 3 and 4 mark large areas that are not cracks
NOTES = (f"of CrackForest's codes only {CRACK} is crack",)


def read_raw(raw: Path, info: DatasetInfo) -> Iterator[Picture]:
    """Read a folder of one source; a mask without an image, damaged or of another size is refused."""
    if not (raw / "groundTruth").is_dir():
        yield from folder.read_raw(raw, info)
        return
    images = [raw / "image" / name for name in list_images(raw / "image")]
    truths = {path.stem: path for path in (raw / "groundTruth").glob("*.mat")}
    labelled = [image for image in images if image.stem in truths]
    for image, truth in pair_stems(labelled, truths.values()):
        yield _read_crackforest(image, truth)
    yield from (Picture(image.name, image, None) for image in images if image.stem not in truths)


def _read_crackforest(image: Path, truth: Path) -> Picture:
    try:
        codes = loadmat(check_file(truth))["groundTruth"][0, 0]["Segmentation"]
        fit_image(image, truth, codes.shape)
    except DefectmillError:
        raise
    except Exception as error:  # SciPy raises nearly anything of damaged files
        raise DatasetError(f"{truth}: not a CrackForest ground truth ({error})") from error
    mask = (codes == CRACK).astype(np.uint8)[:, :, None]
    others = {f"pixels of code {code}, no crack": int((codes == code).sum()) for code in (3, 4)}
    return Picture(image.name, image, mask, issues={**REFUSED, **others, EMPTY: int(not mask.any())})
