"""Charts. Every function returns a Figure and shows nothing."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from defectmill.cards import Card
from defectmill.image_table import class_matrix
from defectmill.panel import ALL
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


def plot_network(layers: pd.DataFrame) -> Figure:
    """The network as it runs, left to right: how large its maps are, and how many channels.

    Args:
        layers: from `models.list_layers`.
    """
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(9, 3.6), sharex=True)
    places = np.arange(len(layers))
    upper.bar(places, layers["height"], width=1, color=GREY)
    upper.set(ylabel="height of the map\n[pixels, log]", title="Convolutions, in their order")
    upper.set_yscale("log", base=2)
    lower.bar(places, layers["channels"], width=1, color=BLUE)
    lower.set(ylabel="channels", xlabel="convolution")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
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


def plot_history(history: pd.DataFrame, kept: int) -> Figure:
    """Loss and foreground Dice over the epochs, training against held-out fold.

    Args:
        kept: the epoch, from 0, whose model is kept.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
    epochs = history["epoch"] + 1
    for axes, name, title in (
        (left, "loss", "Loss"),
        (right, "foreground_dice", "Mean pooled Dice of the defect classes"),
    ):
        axes.plot(epochs, history[name], color=GREY, label="training", marker=".")
        axes.plot(epochs, history[f"val_{name}"], color=BLUE, label="held-out fold", marker=".")
        axes.set(xlabel="epoch", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)
    right.axvline(epochs[kept], color=BLUE, linestyle=":", linewidth=1)
    right.set_ylim(0, 1)
    return figure


def plot_scores(panel: pd.DataFrame, part: str, card: Card) -> Figure:
    """Score against the floor; pooled Dice of each class; with their intervals.

    Args:
        panel: of `panel.score_panel`. part: what it was measured on.
    """
    rows = panel.set_index(["class", "measure"])
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 0.38 * len(card.classes) + 1.5))
    totals = [rows.loc[(ALL, measure)] for measure in ("floor", "score")]
    kinds = [rows.loc[(name, "pooled_dice")] for name in card.class_names]
    for axes, names, shown, colours, digits in (
        (left, ["says nothing\n(floor)", "this run"], totals, [GREY, BLUE], 4),
        (right, card.class_names, kinds, card.shades, 3),
    ):
        values = [0 if np.isnan(row["value"]) else row["value"] for row in shown]
        axes.barh(names, values, color=colours)
        for place, row in enumerate(shown):
            high = np.nanmax([row["value"], row["high"], 0])
            axes.plot([row["low"], row["high"]], [place, place], color="black", linewidth=1)
            axes.annotate(f"{row['value']:.{digits}f}", (high, place), (4, 0), va="center",
                          textcoords="offset points")  # fmt: skip
    lowest = np.nanmin([row[["value", "low"]].min() for row in totals])
    left.set(xlim=(lowest - 0.08, 1.05), xlabel="mean Dice over (image, class)",
             title="Competition score")  # fmt: skip
    left.axvline(1, color=GREY, linestyle=":", linewidth=1)
    right.invert_yaxis()
    right.set(xlim=(0, 1.15), xlabel="Dice pooled over all images", title="Each class")
    figure.suptitle(f"{part}; lines: 95 % intervals", fontsize=9)
    return figure


def plot_rules(table: pd.DataFrame, rules: Sequence, card: Card) -> Figure:
    """Gain of each class over threshold and minimum area; the chosen rule marked."""
    figure, grid = plt.subplots(
        1,
        len(card.classes),
        figsize=(max(6.5, 2.5 * len(card.classes)), 2.5),
        squeeze=False,
        sharey=True,
    )  # fmt: skip
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
        "threshold; colour: score gained for each image with the class, plus pooled Dice, "
        "on the held-out fold", fontsize=9,
    )  # fmt: skip
    return figure
