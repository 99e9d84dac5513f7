"""Images with their masks: as Matplotlib figures, and as a gallery for a page."""

import base64
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy  # loads its parts where they are used
from jinja2 import Template
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from defectmill.dataset_info import DatasetInfo
from defectmill.images import (
    colours_from_masks,
    encode_image,
    overlay,
    read_image,
    resize_image,
    resize_masks,
)
from defectmill.labels import draw_masks, runs_by_image
from defectmill.rle import mask_to_rle, rle_area
from defectmill.scores import dice_by_image
from defectmill.viz.figures import styled

Arrays = Sequence[np.ndarray]
Names = Sequence[str]
WIDE = 3  # from this width over height on, images stand below one another
SIDE = 720  # pixels of the longer side of an image in a gallery; of a wide one twice as many
MOST_BYTES = 12_000_000  # of a gallery, so that a page with it stays below 15 MB
# Blue and orange are told apart by every kind of colour vision.
DIFFERENCE = {"hit": (120, 200, 170), "missed": (255, 140, 0)}
DIFFERENCE |= {"false alarm": (60, 130, 246), "wrong class": (214, 60, 200)}
OUTLINES = {"labelled": DIFFERENCE["missed"], "predicted": DIFFERENCE["false alarm"]}
OUTLINED = 320  # pixels of the longer side of a picture with them
CONTEXT = 16  # pixels around a suspicious label, at least; else half its size


@dataclass(frozen=True)
class Case:
    """One image of a gallery: (H, W, 1 or 3) uint8, with true and predicted masks (H, W, C) in {0, 1}."""

    title: str
    image_id: str
    dice: float
    image: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


def pick_examples(labels: pd.DataFrame, class_id: int, n: int) -> list[str]:
    """Pick n images of a class, from its smaller masks to its larger; of class 0 clean ones."""
    if class_id == 0:
        ids = [i for i, runs in runs_by_image(labels).items() if not runs]
    else:
        mine = labels[(labels["ClassId"] == class_id) & labels["hasMask"]]
        order = np.argsort(mine["EncodedPixels"].map(rle_area), kind="stable")
        ids = mine["ImageId"].iloc[order].tolist()
    if len(ids) >= n + 2:  # neither the smallest nor the largest
        places = np.linspace(0, len(ids) - 1, n + 2)[1:-1]
    else:
        places = np.linspace(0, len(ids) - 1, min(n, len(ids)))
    return [ids[p] for p in places.round().astype(int)]


def read_with_masks(
    folder: Path, labels: pd.DataFrame, image_ids: Iterable[str], n_classes: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Read images, (H, W, 3) uint8 each, and draw their masks, (H, W, n_classes) uint8 in {0, 1} each."""
    images = [(i, read_image(folder / i, 3)) for i in image_ids]
    masks = [draw_masks(labels, i, image.shape[:2], n_classes) for i, image in images]
    return [image for _, image in images], masks


@styled
def show_pictures(
    rows: Sequence[Arrays], titles: Sequence[Names], info: DatasetInfo | None = None, width: float = 9
) -> Figure:
    """Lay pictures out in rows, each with its title; with `info`, the colours of the classes below.

    Args:
        rows: pictures, (H, W, 3) or (H, W, 1) uint8.
        width: inches of the figure at most; pictures are 4 inches high at most.
    """
    n, aspects = max(map(len, rows)), [max(p.shape[0] / p.shape[1] for p in row) for row in rows]
    cell = min(width / n, 4 / max(aspects))
    heights = [cell * aspect + 0.3 for aspect in aspects]
    size = n * cell, sum(heights) + 0.4
    figure, grid = plt.subplots(len(rows), n, figsize=size, squeeze=False, height_ratios=heights)
    for axes in grid.flat:
        axes.axis("off")
    for line, row, names in zip(grid, rows, titles, strict=True):
        for axes, picture, name in zip(line, row, names, strict=False):
            axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
            axes.set_title(textwrap.fill(name, max(8, round(14 * cell))), fontsize=9, loc="center")
    if info:
        kinds = zip(info.class_names, info.shades, strict=True)
        handles = [Patch(color=(r, g, b), label=name) for name, (r, g, b) in kinds]
        figure.legend(handles=handles, loc="outside lower center", ncols=max(1, int(size[0] / 1.8)))
    return figure


def show_examples(pictures: Arrays, masks: Arrays, names: Names, title: str, info: DatasetInfo) -> Figure:
    """Show each picture as it is and, below, tinted; three in a row, wide ones alone."""
    n, rows, titles = _columns(pictures, 3), [], []
    tinted = [overlay(p, m, info.colours) for p, m in zip(pictures, masks, strict=True)]
    for k in range(0, len(pictures), n):
        rows += [pictures[k : k + n], tinted[k : k + n]]
        titles += [names[k : k + n], [""] * n]
    return _lay_out(rows, titles, title, info)


def show_sheet(pictures: Arrays, masks: Arrays, names: Names, title: str, info: DatasetInfo) -> Figure:
    """Show tinted pictures, three in a row, wide ones alone."""
    n, pairs = _columns(pictures, 3), zip(pictures, masks, strict=True)
    return _lay_out(_rows([overlay(p, m, info.colours) for p, m in pairs], n), _rows(names, n), title, info)


def show_pairs(pairs: Sequence[tuple[np.ndarray, np.ndarray]], titles: Sequence[tuple[str, str]]) -> Figure:
    """Show pairs of pictures side by side, two pairs in a row, of wide ones one pair."""
    pictures = list(chain(*pairs))
    n = 2 * _columns(pictures, 2)
    return show_pictures(_rows(pictures, n), _rows(list(chain(*titles)), n))


@styled
def show_suspects(
    folder: Path, suspects: pd.DataFrame, labels: pd.DataFrame, predicted: pd.DataFrame, info: DatasetInfo
) -> Figure:
    """Show suspicious labels, three in a row: what is labelled and what is predicted, around each box.

    Args:
        folder: of the image files.
        suspects: at least one row of `curation.suspects.rank_suspects`.
        labels, predicted: label tables of (at least) the images of `suspects`.
    """
    pictures, titles, names = [], [], ["none", *info.class_names]
    for row in suspects.itertuples():
        image = read_image(folder / row.ImageId, 3)
        height, width = row.bottom - row.top, row.right - row.left
        margin = max(CONTEXT, height // 2, width // 2)
        top, left = max(0, row.top - margin), max(0, row.left - margin)
        window = np.s_[top : row.bottom + margin, left : row.right + margin]
        pairs = (labels, row.ClassId), (predicted, row.PredictedClassId or row.ClassId)
        drawn = [draw_masks(t, row.ImageId, image.shape[:2], info.n_classes)[:, :, c - 1] for t, c in pairs]
        part, masks = image[window], np.dstack(drawn)[window]
        # One size for all, so that outlines are as thick in a large box as in a small one.
        shape = [max(1, round(side * OUTLINED / max(part.shape))) for side in part.shape[:2]]
        shown = resize_image(part, shape), resize_masks(masks, shape)
        pictures.append(overlay(*shown, [*OUTLINES.values()], opacity=0))
        words = names[row.ClassId], f"predicted {names[row.PredictedClassId]}" * (row.kind == "wrong class")
        titles.append(f"{row.kind} {row.suspicion:.2f}: {', '.join(filter(None, words))} {row.ImageId}")
    figure = show_pictures(_rows(pictures, 3), _rows(titles, 3))
    handles = [Patch(color=(r / 255, g / 255, b / 255), label=name) for name, (r, g, b) in OUTLINES.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def show_steps(
    image: np.ndarray, probs: np.ndarray, thresholds: Sequence[Any], info: DatasetInfo, class_id: int
) -> Figure:
    """Show how (H, W, C) probabilities become the mask of one class, as `prediction.make_masks` does it.

    `thresholds`: one a class, with cut(), high_threshold and minimum_area. The titles count pixels and
    connected components that are left; the uppermost has the start of the run-length string.
    """
    kind, wanted, sure = info.classes[class_id - 1], thresholds[class_id - 1], probs[:, :, class_id - 1]
    likeliest = ""
    if info.exclusive:
        weighted, likeliest = probs * [one.weight for one in thresholds], " and the most probable class"
        sure = np.where(weighted.argmax(axis=2) == class_id - 1, sure, 0)
    bound = wanted.cut(sure)
    above = sure > bound
    components, n = scipy.ndimage.label(above, np.ones((3, 3)))
    areas = np.bincount(components[above], minlength=n + 1)[1:]
    peaks = np.array(scipy.ndimage.maximum(sure, components, np.arange(1, n + 1)))
    keep = (areas >= wanted.minimum_area) & (peaks >= wanted.high_threshold)
    cleaned = np.concatenate([[False], keep])[components]
    masks = [colours_from_masks(mask[:, :, None], [kind.colour]) for mask in (above, cleaned)]
    reached = f" that reach {wanted.high_threshold:g}" if wanted.high_threshold else ""
    what = f"of at least {wanted.minimum_area:,} pixels{reached}"
    titles = [
        "the image",
        f"probability of {kind.name}, black 0 to white 1: at most {sure.max():.2f}",
        f"above {bound:.3g}{likeliest}: {above.sum():,} pixels in {n} components",
        f"{keep.sum()} components {what}: {cleaned.sum():,} pixels",
    ]
    pictures, columns = [image, (255 * sure[:, :, None]).astype(np.uint8), *masks], _columns([image], 2)
    rle = textwrap.shorten(mask_to_rle(cleaned), 60, placeholder=" ...") or "empty"
    return _lay_out(_rows(pictures, columns), _rows(titles, columns), f"Run-length string: {rle}")


def collect_cases(
    folder: Path, truth: pd.DataFrame, predicted: pd.DataFrame, n_classes: int, most: int = 4
) -> list[Case]:
    """Read the worst, the median and the best images by Dice, none twice.

    Args:
        folder: of the image files. truth, predicted: label tables of the same rows in one order;
            images with nothing in either are left out.
        most: at each end; fewer where there are fewer than three times as many.
    """
    dice = dice_by_image(truth, predicted)
    n = max(1, min(most, len(dice) // 3))
    ends = {"Worst": dice[:n], "Median": dice[len(dice) // 2 :][:1], "Best": dice[::-1][:n]}
    titles = {i: title for title, chosen in reversed(ends.items()) for i in chosen.index}
    ids = list(dict.fromkeys(chain(*(chosen.index for chosen in ends.values()))))
    images, masks = read_with_masks(folder, truth, ids, n_classes)
    guesses = [draw_masks(predicted, i, m.shape[:2], n_classes) for i, m in zip(ids, masks, strict=True)]
    arrays = zip(images, masks, guesses, strict=True)
    return [Case(titles[i], i, dice[i], *three) for i, three in zip(ids, arrays, strict=True)]


def gallery(cases: Sequence[Case], info: DatasetInfo) -> Any:
    """Show image, truth, prediction and difference of each case, as IPython's HTML.

    Images are JPEG in data: addresses, so that a page needs no other file; many or noisy ones lose quality.
    """
    from IPython.display import HTML

    template = Template(Path(__file__).with_name("gallery.html.j2").read_text(), autoescape=True)
    classes = list(zip(info.class_names, info.colours, strict=True))
    legends = {"classes": classes, "difference": list(DIFFERENCE.items())}
    for quality in (82, 60, 40):
        drawn = [(case, *_draw_panels(case, info, quality)) for case in cases]
        html = template.render(cases=drawn, legends=legends, wide=WIDE)
        if len(html) < MOST_BYTES:
            break
    return HTML(html)


def split_difference(truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """Say of each pixel of (H, W, C) masks what it is, by the names of DIFFERENCE: (H, W) bool each."""
    right, true, guessed = (truth & predicted).any(axis=2), truth.any(axis=2), predicted.any(axis=2)
    parts = right, true & ~guessed, guessed & ~true, true & guessed & ~right
    return dict(zip(DIFFERENCE, parts, strict=True))


def paint_difference(image: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Paint each kind of difference over the faded (H, W, 1 or 3) image: (H, W, 3) uint8."""
    picture = np.repeat(0.5 * image.mean(axis=2, keepdims=True) + 64, 3, axis=2)
    for name, mask in split_difference(truth, predicted).items():
        picture[mask] += 0.75 * (np.array(DIFFERENCE[name]) - picture[mask])
    return picture.round().astype(np.uint8)


def shrink(array: np.ndarray) -> np.ndarray:
    """Bring (H, W, C) uint8 to SIDE pixels at most, by averaging."""
    height, width = array.shape[:2]
    scale = min(1.0, SIDE * (2 if width > WIDE * height else 1) / max(height, width))
    return resize_image(array, (max(1, round(height * scale)), max(1, round(width * scale))))


def _draw_panels(case: Case, info: DatasetInfo, quality: int) -> tuple[list[tuple[str, str, str]], int, int]:
    """Name, words and address of each panel of a case; their width and height in pixels."""
    image, masks = shrink(case.image), (case.truth, case.predicted)
    # Any part of a defect counts: a thin crack must not vanish with the size.
    small = [(shrink(m * 255) > 0).astype(np.uint8) for m in masks]
    drawn = [image, *(overlay(image, m, info.colours) for m in small), paint_difference(image, *small)]
    areas = [dict(zip(info.class_names, m.sum(axis=(0, 1), dtype=int), strict=True)) for m in masks]
    areas.append({name: mask.sum() for name, mask in split_difference(*masks).items()})
    told = (", ".join(f"{name}: {n:,} pixels" for name, n in part.items() if n) for part in areas)
    words = ["as it is", *(text or "no defect" for text in told)]
    data = [base64.b64encode(encode_image(picture, ".jpg", quality)).decode() for picture in drawn]
    addresses = [f"data:image/jpeg;base64,{text}" for text in data]
    names = ("input", "truth", "prediction", "difference")
    return list(zip(names, words, addresses, strict=True)), image.shape[1], image.shape[0]


def _columns(pictures: Arrays, n: int) -> int:
    """How many pictures stand side by side: n, or 1 of wide ones."""
    return 1 if max(p.shape[1] / p.shape[0] for p in pictures) > WIDE else n


def _rows(cells: Sequence, n: int) -> list:
    return [cells[k : k + n] for k in range(0, len(cells), n)]


@styled
def _lay_out(rows: Sequence, titles: Sequence, title: str, info: DatasetInfo | None = None) -> Figure:
    figure = show_pictures(rows, titles, info)
    figure.suptitle(title)
    return figure
