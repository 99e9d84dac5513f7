"""Figures. Every function returns a Figure and shows nothing."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullFormatter

from defectmill.cards import Card
from defectmill.image_table import class_matrix
from defectmill.rle import rle_area

GREY = "#8a8f98"
plt.rcParams.update(
    {
        "figure.dpi": 110,
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
        "axes.titlesize": 10,
    }
)


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


def plot_class_counts(images: pd.DataFrame, card: Card) -> Figure:
    """Images of each class and of none: how many, and which share of all."""
    counts = class_matrix(images, len(card.classes)).sum(axis=0)
    names = ["no defect", *card.class_names]
    values = np.array([(images["classes"] == "").sum(), *counts])
    figure, axes = plt.subplots(figsize=(7, 0.42 * len(names) + 0.9))
    bars = axes.barh(names, values, color=[GREY, *_colours(card)])
    axes.bar_label(bars, [f"{v}  ({v / len(images):.1%})" for v in values], padding=4)
    axes.invert_yaxis()
    axes.set(xlabel="images", title=f"Images with each class, of {len(images)}")
    axes.margins(x=0.2)
    return figure


def plot_classes_per_image(images: pd.DataFrame) -> Figure:
    """How many images hold 0, 1, 2... classes."""
    counts = images["classes"].str.split().str.len().value_counts().sort_index()
    figure, axes = plt.subplots(figsize=(4.5, 2.6))
    bars = axes.bar(counts.index.astype(str), counts, color=GREY)
    axes.bar_label(bars)
    axes.margins(y=0.12)
    axes.set(xlabel="classes in an image", ylabel="images", title="Images by number of classes")
    return figure


def plot_areas(labels: pd.DataFrame, card: Card) -> Figure:
    """Histogram of the area of each class's masks, on a logarithmic scale."""
    present = labels[labels["hasMask"]]
    areas = present["EncodedPixels"].map(rle_area)
    # Whole decades: the axis of each class reads alike, and its labels stand apart.
    decades = np.floor(np.log10(areas.min())), np.ceil(np.log10(areas.max() + 1))
    edges = np.logspace(*decades, 31)
    figure, grid = plt.subplots(
        1, len(card.classes), figsize=(2.5 * len(card.classes), 2.4), sharex=True, squeeze=False
    )
    for axes, kind, colour in zip(grid[0], card.classes, _colours(card), strict=True):
        mine = areas[present["ClassId"] == kind.id]
        axes.hist(mine, bins=edges, color=colour)
        median = f"median {mine.median():,.0f}" if len(mine) else "none"
        axes.set(xscale="log", title=f"{kind.id} {kind.name}\n{median} pixels")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0][0].set_ylabel("masks")
    figure.supxlabel("area of a mask [pixels, logarithmic]", fontsize=9)
    return figure


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
        height_ratios=heights,
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
            for kind, colour in zip(card.classes, _colours(card), strict=True)
        ]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=len(handles), frameon=False
        )
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


def plot_history(history: pd.DataFrame) -> Figure:
    """Loss and foreground Dice over the epochs, training against held-out fold."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    epochs = history["epoch"] + 1
    for axes, name, title in (
        (left, "loss", "Loss"),
        (right, "foreground_dice", "Mean pooled Dice of the defect classes"),
    ):
        axes.plot(epochs, history[name], color=GREY, label="training", marker=".")
        axes.plot(
            epochs, history[f"val_{name}"], color="#2563eb", label="held-out fold", marker="."
        )
        axes.set(xlabel="epoch", title=title)
        axes.legend(frameon=False)
    best = history["val_foreground_dice"].idxmax()
    right.axvline(epochs[best], color="#2563eb", linestyle=":", linewidth=1)
    right.set_ylim(0, 1)
    return figure


def plot_scores(panel: dict, card: Card) -> Figure:
    """Score against floor and perfection; pooled Dice of each class."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 0.38 * len(card.classes) + 1.3))
    values = [panel["floor"], panel["score"]]
    bars = left.barh(["says nothing\n(floor)", "this run"], values, color=[GREY, "#2563eb"])
    left.bar_label(bars, [f"{v:.4f}" for v in values], padding=4)
    left.set(xlim=(min(values) - 0.08, 1.04), xlabel="mean Dice over (image, class)",
             title="Competition score")  # fmt: skip
    left.axvline(1, color=GREY, linestyle=":", linewidth=1)
    dice = [panel["classes"][name]["pooled_dice"] or 0 for name in card.class_names]
    bars = right.barh(card.class_names, dice, color=_colours(card))
    right.bar_label(bars, [f"{v:.3f}" for v in dice], padding=4)
    right.invert_yaxis()
    right.set(xlim=(0, 1.12), xlabel="Dice pooled over all images", title="Each class")
    return figure


def plot_rules(table: pd.DataFrame, rules: Sequence, card: Card) -> Figure:
    """Gain of each class over threshold and minimum area; the chosen rule marked."""
    figure, grid = plt.subplots(
        1, len(card.classes), figsize=(2.5 * len(card.classes), 2.5), squeeze=False, sharey=True
    )
    for axes, kind, rule in zip(grid[0], card.classes, rules, strict=True):
        mine = table[table["ClassId"] == kind.id]
        best = mine.pivot_table(
            index="area_share", columns="threshold", values="gain", aggfunc="max"
        )
        shown = axes.imshow(best, aspect="auto", cmap="viridis", origin="lower")
        axes.set_xticks(range(len(best.columns)), [f"{v:g}" for v in best.columns], fontsize=6)
        axes.set_yticks(range(len(best.index)), best.index, fontsize=7)
        axes.set_title(kind.name)
        if rule.threshold in best.columns:
            share = mine.loc[mine["minimum_area"] == rule.minimum_area, "area_share"].iloc[0]
            x, y = best.columns.get_loc(rule.threshold), best.index.get_loc(share)
            axes.plot(x, y, "o", mfc="none", mec="white")
        figure.colorbar(shown, ax=axes, shrink=0.8).ax.tick_params(labelsize=6)
    grid[0][0].set_ylabel("minimum area [of median mask]")
    figure.supxlabel(
        "threshold; colour: gain over the empty answer on the held-out fold, best peak", fontsize=9
    )
    return figure


def _colours(card: Card) -> list[tuple[float, ...]]:
    return [tuple(part / 255 for part in colour) for colour in card.colours]
