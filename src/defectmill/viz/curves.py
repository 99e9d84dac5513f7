"""Charts of what was found and what is false, over thresholds and over sizes; see `figures` for the style."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from defectmill.dataset_info import DatasetInfo
from defectmill.viz.figures import BLUE, GREY, INK, LINE, SOFT, styled


@styled
def plot_precision_recall(curves: pd.DataFrame, info: DatasetInfo) -> Figure:
    """Plot the curve of each class (class, threshold, precision, recall), and lines of equal Dice."""
    figure, axes = plt.subplots(figsize=(5, 5.4))
    for dice in (0.2, 0.4, 0.6, 0.8):
        recall = np.geomspace(dice / (2 - dice), 1, 100)
        axes.plot(recall, dice * recall / (2 * recall - dice), color=LINE, linewidth=1)
        axes.text(1.03, dice / (2 - dice), f"Dice {dice}", color=SOFT, va="center")
    _draw_curves(axes, curves, info, ("recall", "precision"))
    axes.set(title="Precision and recall; dot: threshold 0.5")
    axes.set(xlabel="recall: share of true pixels found", ylabel="precision: share of predicted pixels right")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def plot_image_curves(curves: pd.DataFrame, info: DatasetInfo) -> Figure:
    """Plot precision, recall and false alarms of whole images, by their highest probability.

    Args:
        curves: evaluation's `image_curves`: class, threshold, precision, recall, false_alarm_rate.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4.6))
    _draw_curves(left, curves, info, ("recall", "precision"))
    _draw_curves(right, curves, info, ("false_alarm_rate", "recall"))
    recall = "recall: share of the images with the class found"
    left.set(title="Whole images; dot: threshold 0.5", xlabel=recall)
    left.set_ylabel("precision: share of predicted images right")
    right.set(title="The same, against false alarms", ylabel=recall)
    right.set(xlabel="false alarm rate: share of images without it", xlim=(-0.02, 1.02))
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


@styled
def plot_component_sizes(table: pd.DataFrame, info: DatasetInfo) -> Figure:
    """Plot how many true components are hit, and how many predicted ones are false, by class and area.

    Args:
        table: evaluation's `component_table`: ClassId, smallest, largest, true, hit, predicted, false.
    """
    rows = 0.22 * max(1, len(table) // info.n_classes) + 0.6
    size = 8, info.n_classes * rows + 0.9
    figure, grid = plt.subplots(info.n_classes, 2, figsize=size, squeeze=False, sharex="col", sharey=True)
    for line, kind in zip(grid, info.classes, strict=True):
        mine = table[table["ClassId"] == kind.id]
        for axes, whole, part in zip(line, ("true", "predicted"), ("hit", "false"), strict=True):
            axes.barh(range(len(mine)), mine[whole], 0.7, color=to_rgba(GREY, 0.4))
            axes.barh(range(len(mine)), mine[part], 0.7, color=BLUE)
            for place, (n, of) in enumerate(zip(mine[part], mine[whole], strict=True)):
                words = f"{n:,} of {of:,}" if of else "none"
                axes.annotate(words, (of, place), (4, 0), textcoords="offset points", va="center")
            axes.set(title=f"{kind.title}: {mine[part].sum():,} of {mine[whole].sum():,} {part}", xmargin=0.3)
            axes.grid(axis="x")
        names = [f"{low:,} to {high:,}" for low, high in zip(mine["smallest"], mine["largest"], strict=True)]
        line[0].set_yticks(range(len(mine)), names)
        line[0].set(ylim=(max(1, len(mine)) - 0.5, -0.5), ylabel="area [pixels]")
    for axes, whole in zip(grid[-1], ("true", "predicted"), strict=True):
        axes.set_xlabel(f"{whole} components")
        axes.locator_params(axis="x", integer=True)
    handles = [Patch(color=to_rgba(GREY, 0.4), label="all of this size")]
    handles.append(Patch(color=BLUE, label="left: hit by a predicted pixel; right: without a true pixel"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _draw_curves(axes: Axes, curves: pd.DataFrame, info: DatasetInfo, columns: tuple[str, str]) -> None:
    """Draw one column over another for each class, with a dot at the threshold nearest to a half."""
    dashes = ["-", "--", "-.", ":"] * info.n_classes
    for kind, shade, dash in zip(info.classes, info.shades, dashes, strict=False):
        mine = curves[curves["class"] == kind.name]
        across, up = (mine[column] for column in columns)
        axes.plot(across, up, dash, color=shade, linewidth=2, label=kind.title)
        half = (mine["threshold"] - 0.5).abs().argsort()[:1]
        axes.plot(across.iloc[half], up.iloc[half], "o", color=shade, markeredgecolor=INK)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), aspect="equal")
