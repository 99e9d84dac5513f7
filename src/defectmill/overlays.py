"""Pictures with their masks. Every function but `overlay` returns a Figure and shows nothing."""

from collections.abc import Sequence
from itertools import chain

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from defectmill.cards import Card


def overlay(image: np.ndarray, masks: np.ndarray, card: Card, opacity: float = 0.35) -> np.ndarray:
    """Tint each class in its colour, with a full outline.

    Args:
        image: (H, W, 1 or 3) uint8; masks: (H, W, C) uint8.
    Returns:
        (H, W, 3) uint8.
    """
    picture = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
    picture = picture.astype(np.float32)
    for channel, colour in enumerate(card.colours):
        inside = masks[:, :, channel].astype(bool)
        inner = inside.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                inner &= np.roll(inside, step, axis)
        picture[inside] += opacity * (np.array(colour) - picture[inside])
        picture[inside & ~inner] = colour
    return picture.round().astype(np.uint8)


def show_pictures(rows: Sequence[Sequence[np.ndarray]], titles: Sequence[Sequence[str]],
                  card: Card | None = None, width: float = 10) -> Figure:  # fmt: skip
    """Lay pictures out in rows, each with its title; with a card, the colours explained below.

    Args:
        rows: pictures (H, W, 3) or (H, W, 1) uint8, as many in each row.
    """
    n = max(len(row) for row in rows)
    cell = width / n
    heights = [max(p.shape[0] / p.shape[1] for p in row) * cell + 0.25 for row in rows]
    figure, grid = plt.subplots(
        len(rows), n, figsize=(width, sum(heights) + (0.35 if card else 0)), squeeze=False,
        height_ratios=heights, layout="constrained", dpi=110,
    )  # fmt: skip
    for axes in grid.ravel():
        axes.axis("off")
    for line, pictures, names in zip(grid, rows, titles, strict=True):
        for axes, picture, name in zip(line, pictures, names, strict=False):
            axes.imshow(
                picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="antialiased"
            )
            axes.set_title(name, fontsize=8)
    if card:
        handles = [
            Patch(color=colour, label=kind.name)
            for kind, colour in zip(card.classes, card.shades, strict=True)
        ]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=len(handles), frameon=False,
            fontsize=9,
        )  # fmt: skip
    return figure


def show_examples(pictures: Sequence[np.ndarray], masks: Sequence[np.ndarray],
                  names: Sequence[str], title: str, card: Card) -> Figure:  # fmt: skip
    """Each picture as it is, and tinted: side by side, wide ones below one another."""
    tinted = [overlay(p, m, card) for p, m in zip(pictures, masks, strict=True)]
    if max(p.shape[1] / p.shape[0] for p in pictures) > 3:
        rows = [[p] for pair in zip(pictures, tinted, strict=True) for p in pair]
        titles = [[t] for name in names for t in (name, "")]
    else:
        rows, titles = [list(pictures), tinted], [list(names), [""] * len(names)]
    figure = show_pictures(rows, titles, card)
    figure.suptitle(title, fontsize=11)
    return figure


def show_sheet(pictures: Sequence[np.ndarray], masks: Sequence[np.ndarray], names: Sequence[str],
               title: str, card: Card) -> Figure:  # fmt: skip
    """Tinted pictures, three in a row; wide ones below one another."""
    tinted = [overlay(p, m, card) for p, m in zip(pictures, masks, strict=True)]
    n = 1 if max(p.shape[1] / p.shape[0] for p in pictures) > 3 else 3
    rows, titles = ([x[k : k + n] for k in range(0, len(x), n)] for x in (tinted, list(names)))
    figure = show_pictures(rows, titles, card)
    figure.suptitle(title, fontsize=11)
    return figure


def show_pairs(pairs: Sequence[tuple[np.ndarray, np.ndarray]],
               titles: Sequence[tuple[str, str]]) -> Figure:  # fmt: skip
    """Pictures side by side, two pairs in a row, of wide ones one pair."""
    wide = max(p.shape[1] / p.shape[0] for pair in pairs for p in pair) > 3
    step = 1 if wide else 2
    rows, names = (
        [list(chain.from_iterable(cells[n : n + step])) for n in range(0, len(cells), step)]
        for cells in (pairs, titles)
    )
    return show_pictures(rows, names, width=13)


def show_cases(pictures: Sequence[np.ndarray], truths: Sequence[np.ndarray],
               answers: Sequence[np.ndarray], names: Sequence[str], title: str,
               card: Card) -> Figure:  # fmt: skip
    """Input, truth and prediction of each picture in a row; wide ones below one another."""
    rows, titles = [], []
    for picture, truth, answer, name in zip(pictures, truths, answers, names, strict=True):
        cells = [picture, overlay(picture, truth, card), overlay(picture, answer, card)]
        labels = [name, "truth", "prediction"]
        if picture.shape[1] / picture.shape[0] > 3:
            rows += [[cell] for cell in cells]
            titles += [[label] for label in labels]
        else:
            rows.append(cells)
            titles.append(labels)
    figure = show_pictures(rows, titles, card, width=9)
    figure.suptitle(title, fontsize=11)
    return figure
