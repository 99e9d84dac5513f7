"""Charts: every plot function returns a Matplotlib Figure and shows nothing.

Text, axes and grid lines are drawn in INK, SOFT and LINE on GROUND: a page that holds a figure as SVG
replaces these four by its own colours, light or dark. Everything else is data.
"""

import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure

from defectmill.dataset_info import ALL_CLASSES, BACKGROUND, DatasetInfo
from defectmill.rle import rle_area

INK, SOFT, LINE, GROUND = "#1d2129", "#5b6472", "#dde1e7", "#ffffff"
GREY, BLUE = "#8a8f98", "#2563eb"
# Up to a blue on which the ink of a light page can be read, and that of a dark one.
SHADES = LinearSegmentedColormap.from_list("shades", [to_rgba(BLUE, 0), to_rgba(BLUE, 0.6)])
STYLE: dict[Any, Any] = {"figure.dpi": 110, "figure.constrained_layout.use": True, "svg.fonttype": "none"}
STYLE |= {"font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "figure.titlesize": 11}
STYLE |= {"text.color": INK, "grid.color": LINE, "legend.frameon": False, "axes.axisbelow": True}
STYLE |= dict.fromkeys(("axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), SOFT)
STYLE |= {"figure.facecolor": GROUND, "savefig.facecolor": GROUND, "axes.facecolor": "none"}
STYLE |= dict.fromkeys(("axes.spines.top", "axes.spines.right", "text.parse_math"), False)
WIDTH = 6.5  # inches

P = ParamSpec("P")


def styled(plot: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a function draw its Figure in STYLE, and show and save it so: an SVG's text is written then."""

    @wraps(plot)
    def plot_styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with plt.rc_context(STYLE):
            figure = plot(*args, **kwargs)
            interactive = plt.isinteractive()  # a kernel's first figure turns it on, the context off again
        matplotlib.interactive(interactive)

        def draw_styled(renderer: Any, draw: Callable = figure.draw) -> None:
            with plt.rc_context(STYLE):
                draw(renderer)

        figure.draw = draw_styled  # type: ignore[method-assign]
        return figure

    return plot_styled


@styled
def plot_class_counts(images: pd.DataFrame, info: DatasetInfo) -> Figure:
    """Plot how many images have each class and how many none: left in numbers, right in shares of all."""
    counts, colours = _count_classes(images, info), [GREY, *info.shades]
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 0.32 * len(counts) + 1.1), sharey=True)
    _draw_bars(left, counts, colours, "{:,.0f}")
    _draw_bars(right, 100 * counts / max(1, len(images)), colours, "{:.1f} %")
    left.set(xlabel=f"images, of {len(images):,}", title="Images with each class")
    right.set(xlabel="share of all images [%]")
    return figure


@styled
def plot_classes_per_image(images: pd.DataFrame) -> Figure:
    """Plot how many images have 0, 1, 2... classes."""
    counts = images["classes"].str.split().str.len().value_counts().sort_index()
    figure, (axes,) = _stack(0.32 * len(counts))
    _draw_bars(axes, counts, [GREY] * len(counts), "{:,.0f}")
    axes.set(ylabel="classes", xlabel="images", title="Images by their number of classes")
    return figure


@styled
def plot_split(images: pd.DataFrame, validation_fold: int | str, n_test: int, info: DatasetInfo) -> Figure:
    """Plot how many images train, validate and test, and how these parts share the classes.

    Where every fold validates in turn the parts are the folds, and what always trains.
    """
    if validation_fold == "every":
        names = images["fold"].map(lambda fold: f"fold {fold}" if fold >= 0 else "always trains")
        n = names.nunique()
        shades = [to_rgba(BLUE, 1 - 0.8 * k / n) for k in range(n)]
    else:
        names = (images["fold"] == validation_fold).map({False: "training", True: "validation fold"})
        shades = [to_rgba(GREY), to_rgba(BLUE)]
    parts = {name: images[names == name] for name in sorted(names.unique())}
    counts = pd.DataFrame({name: _count_classes(part, info) for name, part in parts.items()})
    sizes = pd.Series({name: len(part) for name, part in parts.items()})
    figure, (upper, lower) = _stack(0.37 * (1 + len(parts)), 0.21 * len(parts) * len(counts))
    _draw_bars(upper, pd.Series({**sizes, "test": n_test}), [*shades, to_rgba(GREY, 0.5)], "{:,.0f}")
    (100 * counts / sizes.clip(lower=1)).plot.barh(ax=lower, color=shades, width=0.8, legend=False)
    for bars, name in zip(lower.containers, counts, strict=True):
        lower.bar_label(bars, [f"{n:,}" for n in counts[name]], padding=3)
    lower.invert_yaxis()
    lower.margins(x=0.1)
    lower.grid(axis="x")
    upper.set(title="The split", xlabel="images")
    lower.set(title="Classes, in the colours of the parts", xlabel="share of the part's images [%]")
    return figure


@styled
def plot_areas(labels: pd.DataFrame, info: DatasetInfo) -> Figure:
    """Plot a histogram of the areas of each class's masks, on a logarithmic scale."""
    present = labels[labels["hasMask"]]
    areas = present["EncodedPixels"].map(rle_area).astype(float)
    # Whole decades, so that their labels stand apart.
    low, high = np.floor(np.log10(areas)).agg(["min", "max"]).fillna(0)
    edges = np.logspace(low, high + 1, 31)
    figure, grid = _stack(*[0.7] * info.n_classes, sharex=True)
    for axes, kind, shade in zip(grid, info.classes, info.shades, strict=True):
        mine = areas[present["ClassId"] == kind.id]
        axes.hist(mine, bins=edges, color=shade)
        median = f", median {mine.median():,.0f} pixels" if len(mine) else ""
        axes.set(xscale="log", title=f"{kind.title}: {len(mine):,} masks{median}", ylabel="masks")
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.minorticks_off()
        axes.locator_params(axis="y", nbins=3, integer=True)
        axes.grid()
    axes.set_xlabel("area of a mask [pixels, logarithmic]")
    return figure


@styled
def plot_network(layers: pd.DataFrame) -> Figure:
    """Plot height and channels of the maps of a network's convolutions (`models.list_layers`)."""
    figure, grid = _stack(1.3, 1.3, sharex=True)
    for axes, column, colour in zip(grid, ("height", "channels"), (GREY, BLUE), strict=True):
        axes.bar(range(1, len(layers) + 1), layers[column], width=1, color=colour)
        axes.grid(axis="y")
    grid[0].set_yscale("log", base=2)
    grid[0].yaxis.set_major_formatter("{x:g}")
    grid[0].set(ylabel="height of its maps\n[pixels, logarithmic]", title="Convolutions, in their order")
    grid[1].set(ylabel="channels", xlabel="convolution")
    return figure


@styled
def plot_history(history: pd.DataFrame, kept: int) -> Figure:
    """Plot history.csv: loss, Dice and, where logged, learning rate; `kept`: the kept epoch, from 0."""
    titles = {"loss": "Loss", "foreground_dice": "Mean micro Dice of the defect classes"}
    titles |= {"learning_rate": "Learning rate"} if "learning_rate" in history else {}
    figure, grid = _stack(*[1.3] * len(titles), sharex=True)
    epochs = history["epoch"] + 1
    for axes, (name, title) in zip(grid, titles.items(), strict=True):
        for key, label, colour in ((name, "training", GREY), (f"val_{name}", "validation fold", BLUE)):
            if key in history and history[key].notna().any():  # a last fit validates on nothing
                axes.plot(epochs, history[key], ".-", color=colour, label=label)
        axes.axvline(kept + 1, color=SOFT, linestyle=":", linewidth=1.2, label=f"kept: epoch {kept + 1}")
        axes.set_title(title)
        axes.grid()
    grid[1].set_ylim(0, 1)
    grid[0].legend()
    axes.set_xlabel("epoch")
    axes.locator_params(axis="x", integer=True)
    return figure


@styled
def plot_rates(table: pd.DataFrame, suggestion: float) -> Figure:
    """Plot the losses of a learning-rate finder (rate, loss, smoothed), and the rate that it suggests."""
    figure, (axes,) = _stack(2.4)
    axes.plot(table["rate"], table["loss"], color=GREY, linewidth=1, label="of a batch")
    axes.plot(table["rate"], table["smoothed"], color=BLUE, linewidth=2, label="smoothed")
    axes.axvline(suggestion, color=SOFT, linestyle=":", linewidth=1.2, label=f"suggestion: {suggestion:.2g}")
    axes.set(xscale="log", xlabel="learning rate [logarithmic]", ylabel="loss")
    axes.set_title("Loss while the learning rate grows from step to step")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid()
    axes.legend()
    return figure


@styled
def plot_scores(metrics: pd.DataFrame, part: str, info: DatasetInfo) -> Figure:
    """Plot score and floor, and micro Dice of each class, with intervals; `part` names what was measured."""
    rows, names = metrics.set_index(["class", "metric"]), info.class_names
    totals = rows.loc[[(ALL_CLASSES, name) for name in ("floor", "score")]]
    dice = rows.loc[[(name, "micro_dice") for name in names]]
    figure, (upper, lower) = _stack(0.7, 0.34 * len(names), sharex=True)
    _draw_bars(upper, totals.set_axis(["empty submission\n(floor)", "this run"]), [GREY, BLUE], "{:.4f}")
    _draw_bars(lower, dice.set_axis(names), info.shades, "{:.3f}")
    upper.set(xlim=(0, 1.15), title="Competition score: mean Dice over (image, class)")
    lower.set(title="Micro Dice: the pixels of all images together", xlabel=f"{part}; lines: 95 % intervals")
    return figure


@styled
def plot_baselines(baselines: pd.DataFrame, metrics: pd.DataFrame) -> Figure:
    """Plot the score of a run, with its interval, beside those of naive baselines (baseline, score)."""
    ours = metrics[(metrics["class"] == ALL_CLASSES) & (metrics["metric"] == "score")]
    naive = baselines.rename(columns={"baseline": "class", "score": "value"})
    rows = pd.concat([naive, ours.assign(**{"class": "this run"})]).set_index("class")
    figure, (axes,) = _stack(0.34 * len(rows))
    _draw_bars(axes, rows, [GREY] * len(naive) + [BLUE], "{:.4f}")
    axes.set(xlim=(0, 1.15), xlabel="mean Dice over (image, class); line: 95 % interval")
    return figure


@styled
def plot_thresholds(table: pd.DataFrame, thresholds: Sequence[Any], info: DatasetInfo) -> Figure:
    """Plot the gain of each class over threshold and minimum area; a frame marks the chosen one.

    Args:
        table: the grid: ClassId, threshold, high_threshold, minimum_area, expected_dice, calibrated,
            area_share, gain.
        thresholds: the chosen ones, one a class, with the first four of these.
    """
    keys = ["threshold", "high_threshold", "minimum_area", "expected_dice"]
    of_image = table["expected_dice"].map(lambda expected: "each\n" if expected else "")
    table = table.assign(column=of_image + table["calibrated"].map("{:g}".format))
    figure, grid = _stack(*[0.24 * table["area_share"].nunique()] * info.n_classes)
    for axes, kind, chosen in zip(grid, info.classes, thresholds, strict=True):
        mine = table[table["ClassId"] == kind.id]
        gains = mine.pivot_table("gain", "area_share", "column", "max")[list(mine["column"].unique())]
        _shade_cells(axes, gains.rename("{:g}".format), "{:.2f}")
        title = "never predicted, no threshold gains"
        picked = mine[(mine[keys] == [getattr(chosen, key) for key in keys]).all(axis=1)]
        for row in picked[:1].itertuples():
            place = gains.columns.get_loc(row.column), gains.index.get_loc(row.area_share)
            axes.add_patch(plt.Rectangle(place, 1, 1, fill=False, ec=INK, linewidth=2, clip_on=False))
            rule = f"threshold {row.threshold:.3g}, high {row.high_threshold:.3g}"
            if row.expected_dice:
                rule = f"each image its threshold, expected Dice {row.expected_dice:g}"
            title = f"{rule}, {row.minimum_area:,} pixels"
        axes.set(title=f"{kind.title}: {title}", ylabel="minimum area\n[of median mask]")
    axes.set_xlabel(
        "threshold, calibrated; each: the least expected Dice, of images with thresholds of their own\n"
        "numbers: score gained for each image with the class, plus micro Dice"
    )
    return figure


@styled
def plot_confusion(counts: Any, info: DatasetInfo) -> Figure:
    """Plot which share of each true class's pixels was predicted as which class.

    Args:
        counts: evaluation's PixelCounts: confusion, (C + 1, C + 1), background last; counts, (N, C, K),
            of which number 1 is the true pixels: where classes overlap, a row of `confusion` adds up to more.
    """
    names = [textwrap.fill(name, 11) for name in (*info.class_names, BACKGROUND)]
    totals = np.array([*counts.counts[:, :, 1].sum(axis=0), counts.confusion[-1].sum()])
    labels = [f"{name}\n{total:,} pixels" for name, total in zip(names, totals, strict=True)]
    shares = 100 * counts.confusion / totals.clip(1)[:, None]
    figure, axes = plt.subplots(figsize=(2.2 + 0.75 * len(names), 1.3 + 0.5 * len(names)))
    _shade_cells(axes, pd.DataFrame(shares, labels, names), "{:.1f} %")
    axes.set(xlabel="predicted", ylabel="true", title="Share of each true class's pixels")
    axes.invert_yaxis()
    return figure


def _stack(*heights: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """Axes of these heights in inches below one another, with room for their texts."""
    size = WIDTH, sum(heights) + 0.5 * len(heights) + 0.4
    figure, grid = plt.subplots(len(heights), figsize=size, height_ratios=heights, squeeze=False, **options)
    return figure, grid[:, 0]


def _count_classes(images: pd.DataFrame, info: DatasetInfo) -> pd.Series:
    """Images without a defect and with each class, by name."""
    counts = images["classes"].replace("", "0").str.split().explode().value_counts()
    names = ["no defect", *info.class_names]
    return pd.Series([counts.get(str(n), 0) for n in range(len(names))], names)


def _draw_bars(axes: Axes, rows: pd.Series | pd.DataFrame, colours: Sequence, text: str) -> None:
    """Draw bars downwards with their values, intervals below them; `rows`: Series, or value, low and high."""
    table = rows.to_frame("value").assign(low=np.nan, high=np.nan) if isinstance(rows, pd.Series) else rows
    axes.barh(range(len(table)), table["value"].fillna(0), 0.6, color=colours)
    for place, row in enumerate(table.itertuples()):
        axes.plot([row.low, row.high], [place + 0.39] * 2, color=INK, linewidth=1.5)
        end, words = np.nan_to_num(row.value), text.format(row.value).replace("nan", "none")
        axes.annotate(words, (end, place), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(table)), table.index)
    axes.set(ylim=(len(table) - 0.5, -0.5), xmargin=0.25)
    axes.grid(axis="x")


def _shade_cells(axes: Axes, table: pd.DataFrame, text: str) -> None:
    """Draw a table as shaded cells with their values, its first row at the bottom."""
    axes.pcolormesh(table.to_numpy(float), cmap=SHADES, edgecolors=LINE, linewidth=0.5)
    for (row, column), value in np.ndenumerate(table):
        words = text.format(value) if value else "0"
        axes.text(column + 0.5, row + 0.5, words, ha="center", va="center")
    axes.set_xticks(np.arange(table.shape[1]) + 0.5, table.columns)
    axes.set_yticks(np.arange(table.shape[0]) + 0.5, table.index)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
