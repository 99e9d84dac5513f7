"""Gallery: pictures with truth, prediction and difference, small enough for one page."""

import base64
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from defectmill.cards import Card
from defectmill.image_table import read_with_masks
from defectmill.images import encode_image, resize_image
from defectmill.labels import draw_masks
from defectmill.overlays import overlay
from defectmill.scores import dice_by_image

SIDE = 720  # pixels of the longer side of a shown picture
WIDE = 3  # from this width over height on, pictures stand below one another
# Blue and orange are told apart by every kind of colour vision.
DIFFERENCE = {
    "hit": (120, 200, 170), "missed": (255, 140, 0), "false alarm": (60, 130, 246),
    "wrong class": (214, 60, 200),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One picture of the gallery.

    image: (H, W, 1 or 3) uint8. truth, answer: (H, W, C) in {0, 1}.
    """

    title: str
    image_id: str
    dice: float
    image: np.ndarray
    truth: np.ndarray
    answer: np.ndarray


def collect_cases(
    folder: Path, truth: pd.DataFrame, answers: pd.DataFrame, n_classes: int, most: int = 4
) -> list[Case]:
    """Read the worst, the median and the best pictures, none twice.

    Args:
        folder: where the files are. truth, answers: label tables of the same rows in one order;
            pictures with nothing in either are left out.
        most: at each end; fewer where there are fewer than three times as many.
    """
    dice = dice_by_image(truth, answers)
    n = max(1, min(most, len(dice) // 3))
    ends = {"Worst": dice[:n], "Median": dice[len(dice) // 2 :][:1], "Best": dice[::-1][:n]}
    titles = {i: title for title, chosen in reversed(ends.items()) for i in chosen.index}
    ids = list(dict.fromkeys(i for chosen in ends.values() for i in chosen.index))
    pictures, masks = read_with_masks(folder, truth, ids, n_classes)
    return [
        Case(titles[i], i, dice[i], picture, true,
             draw_masks(answers, i, picture.shape[:2], n_classes))
        for i, picture, true in zip(ids, pictures, masks, strict=True)
    ]  # fmt: skip


def draw_case(case: Case, card: Card) -> dict:
    """Draw a case for a page.

    Returns:
        title, image_id, dice, wide, and panels: each with name, alt text, data address, width
        and height.
    """
    image, truth, answer = (shrink(a) for a in (case.image, case.truth * 255, case.answer * 255))
    # Any part of a defect counts: a thin crack must not vanish with the size.
    truth, answer = (truth > 0).astype(np.uint8), (answer > 0).astype(np.uint8)
    panels = [
        ("input", image if image.shape[2] == 3 else np.repeat(image, 3, 2), "as it is"),
        ("truth", overlay(image, truth, card), tell_classes(case.truth, card)),
        ("prediction", overlay(image, answer, card), tell_classes(case.answer, card)),
        ("difference", paint_difference(image, truth, answer),
         tell_difference(case.truth, case.answer)),
    ]  # fmt: skip
    height, width = image.shape[:2]
    return {
        "title": case.title, "image_id": case.image_id, "dice": case.dice,
        "wide": width > WIDE * height,
        "panels": [
            {"name": name, "said": said, "alt": f"{case.image_id}, {name}: {said}",
             "address": to_address(picture), "width": width, "height": height}
            for name, picture, said in panels
        ],
    }  # fmt: skip


def paint_difference(image: np.ndarray, truth: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Paint each pixel as hit, missed, false alarm or wrong class over the faded picture.

    Args:
        image: (H, W, 1 or 3) uint8; truth, answer: (H, W, C) in {0, 1}.
    Returns:
        (H, W, 3) uint8.
    """
    grey = image.mean(axis=2, keepdims=True)
    picture = np.repeat(0.5 * grey + 64, 3, axis=2)
    for name, mask in split_difference(truth, answer).items():
        picture[mask] += 0.75 * (np.array(DIFFERENCE[name]) - picture[mask])
    return picture.round().astype(np.uint8)


def split_difference(truth: np.ndarray, answer: np.ndarray) -> dict[str, np.ndarray]:
    """Say of each pixel what it is, by the names of DIFFERENCE: (H, W) bool each, disjoint."""
    right, true, said = (truth & answer).any(axis=2), truth.any(axis=2), answer.any(axis=2)
    return {
        "hit": right, "missed": true & ~said, "false alarm": said & ~true,
        "wrong class": true & said & ~right,
    }  # fmt: skip


def tell_classes(masks: np.ndarray, card: Card) -> str:
    """Name the classes of a picture with their areas."""
    areas = masks.sum(axis=(0, 1), dtype=int)
    said = [
        f"{name} {area:,} pixels"
        for name, area in zip(card.class_names, areas, strict=True)
        if area
    ]
    return ", ".join(said) or "no defect"


def tell_difference(truth: np.ndarray, answer: np.ndarray) -> str:
    """Count the pixels of each kind of difference."""
    parts = {name: int(mask.sum()) for name, mask in split_difference(truth, answer).items()}
    return ", ".join(f"{name} {n:,}" for name, n in parts.items() if n) or "nothing on either side"


def shrink(array: np.ndarray) -> np.ndarray:
    """Bring (H, W, C) uint8 to SIDE pixels at most, by averaging."""
    height, width = array.shape[:2]
    scale = min(1.0, SIDE * (2 if width > WIDE * height else 1) / max(height, width))
    return resize_image(array, (max(1, round(height * scale)), max(1, round(width * scale))))


def to_address(picture: np.ndarray, quality: int = 82) -> str:
    """Write a picture as a data: address, so that a page needs no other file."""
    data = base64.b64encode(encode_image(picture, ".jpg", quality)).decode()
    return f"data:image/jpeg;base64,{data}"
