"""Charts of what a run did. Every function returns a Figure and shows nothing."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from defectmill.cards import Card
from defectmill.panel import ALL
from defectmill.plots import BLUE, GREY


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
