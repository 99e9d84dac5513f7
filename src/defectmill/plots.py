"""Charts. Every function returns a Figure and shows nothing."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from defectmill.cards import Card
from defectmill.image_table import class_matrix
from defectmill.rle import rle_area

GREY, BLUE = "#8a8f98", "#2563eb"
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


def plot_class_counts(images: pd.DataFrame, card: Card) -> Figure:
    """Images of each class and of none: how many, and which share of all."""
    counts = class_matrix(images, len(card.classes)).sum(axis=0)
    names = ["no defect", *card.class_names]
    values = np.array([(images["classes"] == "").sum(), *counts])
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 0.42 * len(names) + 0.9), sharey=True)
    for axes, numbers, shown, label in (
        (left, values, "{:,.0f}", f"images, of {len(images):,}"),
        (right, 100 * values / max(1, len(images)), "{:.1f} %", "share of all images [%]"),
    ):
        bars = axes.barh(names, numbers, color=[GREY, *card.shades])
        axes.bar_label(bars, [shown.format(n) for n in numbers], padding=4)
        axes.set_xlabel(label)
        axes.margins(x=0.16)
    left.invert_yaxis()
    figure.suptitle("Images with each class", fontsize=10)
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


def plot_split(images: pd.DataFrame, held_out: int, n_test: int, card: Card) -> Figure:
    """How many images train, are held out and are tested; and how the classes share them."""
    parts = {"training": images["fold"] != held_out, "held-out fold": images["fold"] == held_out}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 0.3 * len(card.classes) + 1.8))
    sizes = [*(int(mine.sum()) for mine in parts.values()), n_test]
    bars = left.bar([*parts, "test"], sizes, color=[GREY, BLUE, "#d7dbe2"])
    left.bar_label(bars)
    left.set(ylabel="images", title="The split")
    left.margins(y=0.15)
    shares = [
        [0, *class_matrix(images[mine], len(card.classes)).sum(axis=0)] for mine in parts.values()
    ]
    for values, mine in zip(shares, parts.values(), strict=True):
        values[0] = int((images.loc[mine, "classes"] == "").sum())
    places = np.arange(len(card.classes) + 1)
    for step, (name, values, colour) in enumerate(zip(parts, shares, (GREY, BLUE), strict=True)):
        total = max(1, sum(parts[name]))
        bars = right.barh(places + 0.4 * step, [100 * v / total for v in values], 0.38,
                          color=colour, label=name)  # fmt: skip
        right.bar_label(bars, values, padding=3, fontsize=7)
    right.set_yticks(places + 0.2, ["no defect", *card.class_names])
    right.invert_yaxis()
    right.margins(x=0.12)
    right.set(xlabel="share of the part's images [%]; numbers: images", title="Classes")
    right.legend(frameon=False)
    return figure


def plot_areas(labels: pd.DataFrame, card: Card) -> Figure:
    """Histogram of the area of each class's masks, on a logarithmic scale."""
    present = labels[labels["hasMask"]]
    areas = present["EncodedPixels"].map(rle_area)
    # Whole decades: the axis of each class reads alike, and its labels stand apart.
    decades = np.floor(np.log10(areas.min())), np.ceil(np.log10(areas.max() + 1))
    edges = np.logspace(*decades, 31)
    figure, grid = plt.subplots(
        1,
        len(card.classes),
        figsize=(max(5, 2.5 * len(card.classes)), 2.4),
        sharex=True,
        squeeze=False,
    )  # fmt: skip
    for axes, kind, colour in zip(grid[0], card.classes, card.shades, strict=True):
        mine = areas[present["ClassId"] == kind.id]
        axes.hist(mine, bins=edges, color=colour)
        median = f"median {mine.median():,.0f}" if len(mine) else "none"
        axes.set(xscale="log", title=f"{kind.title}\n{median} pixels")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0][0].set_ylabel("masks")
    figure.supxlabel("area of a mask [pixels, logarithmic]", fontsize=9)
    return figure
