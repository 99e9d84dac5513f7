"""Figures, by the data that they hold."""

import io
import re
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from defectmill.dataset_info import ALL_CLASSES
from defectmill.labels import make_label_table
from defectmill.viz import curves, figures
from defectmill.viz.figures import BLUE, GREY, GROUND, INK, LINE, SOFT
from fake_competition import COLOURS, make_info

INFO = make_info()
IMAGES = pd.DataFrame({"classes": ["1", "", "1 2", "", "2", ""], "fold": [0, 0, 1, 1, -1, 2]})
LABELS = make_label_table(
    [("a.png", 1, "1 12"), ("a.png", 2, ""), ("b.png", 1, "1 900 999 1"), ("b.png", 2, "")]
)
LAYERS = pd.DataFrame({"height": [64, 32, 8], "channels": [4, 16, 99]})
HISTORY = pd.DataFrame({"epoch": [0, 1, 2], "loss": [3.0, 2.0, 1.5], "val_loss": [2.5, np.nan, 2.0]})
HISTORY[["foreground_dice", "val_foreground_dice"]] = [[0.1, 0.2], [0.3, 0.5], [0.6, 0.4]]
RATED = HISTORY.assign(learning_rate=[0.1, 0.05, 0.0])
METRICS = pd.DataFrame(
    [
        (ALL_CLASSES, "score", 0.9, 0.85, 0.97),
        (ALL_CLASSES, "floor", 0.8, 0.75, 0.82),
        ("bar 1", "micro_dice", 0.5, 0.25, 0.6),
        ("bar 2", "micro_dice", np.nan, np.nan, np.nan),
    ],
    columns=["class", "metric", "value", "low", "high"],
)
BASELINES = pd.DataFrame({"baseline": ["empty", "copy"], "score": [0.8, 0.7]})
GRID = pd.DataFrame({"ClassId": 1, "threshold": [0.3, 0.3, 0.6, 0.3, 0.6], "area_share": [0, 0, 0, 0.1, 0.1]})
GRID = GRID.assign(high_threshold=[0.3, 0.6, 0.6, 0.6, 0.6], minimum_area=[0, 0, 0, 40, 40])
GRID = GRID.assign(calibrated=GRID["threshold"], gain=[0.5, 0.7, 0.0, 0.9, -0.25], expected_dice=0.0)
GRID = pd.concat([GRID, GRID.assign(ClassId=2, gain=GRID["gain"] - 1)])
CHOSEN = [
    SimpleNamespace(threshold=t, high_threshold=h, minimum_area=a, expected_dice=0)
    for t, h, a in ((0.3, 0.6, 40), (1, 1, 0))
]
COUNTS = SimpleNamespace(
    confusion=np.array([[60, 20, 40], [0, 0, 0], [1, 0, 999]]), counts=np.zeros((2, 2, 7), int)
)
COUNTS.counts[:, 0, 1] = 70, 30
CURVES = pd.DataFrame({"class": "bar 1", "threshold": [0.1, 0.45, 0.9]})
CURVES[["precision", "recall"]] = [[0.2, 1.0], [0.6, 0.7], [1.0, 0.1]]
FOUND = CURVES.assign(false_alarm_rate=[0.9, 0.3, 0.0])
SIZES = pd.DataFrame({"ClassId": [1, 1, 2, 2], "smallest": [64, 256] * 2, "largest": [255, 1023] * 2})
SIZES[["true", "hit", "predicted", "false"]] = [[9, 4, 5, 1], [0, 0, 1, 1], [0, 0, 0, 0], [2, 2, 2, 0]]
RATES = pd.DataFrame({"rate": [1e-4, 1e-3, 1e-2], "loss": [2.0, 1.0, 3.0], "smoothed": [1.8, 1.5, 2.2]})
DRAWN = {
    figures.plot_class_counts: (IMAGES, INFO),
    figures.plot_classes_per_image: (IMAGES,),
    figures.plot_split: (IMAGES, 0, 9, INFO),
    figures.plot_areas: (LABELS, INFO),
    figures.plot_network: (LAYERS,),
    figures.plot_history: (RATED, 1),
    figures.plot_rates: (RATES, 1.26e-4),
    figures.plot_scores: (METRICS, "test part", INFO),
    figures.plot_baselines: (BASELINES, METRICS),
    figures.plot_thresholds: (GRID, CHOSEN, INFO),
    figures.plot_confusion: (COUNTS, INFO),
    curves.plot_precision_recall: (CURVES, INFO),
    curves.plot_image_curves: (FOUND, INFO),
    curves.plot_component_sizes: (SIZES, INFO),
}


@pytest.fixture(autouse=True)
def close_figures():
    with plt.rc_context():
        yield
    plt.close("all")


def to_svg(figure):
    page = io.StringIO()
    figure.savefig(page, format="svg")
    return page.getvalue()


def widths(axes):
    return [round(bar.get_width(), 4) for bar in axes.patches]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("plot", DRAWN, ids=lambda plot: plot.__name__)
def test_a_figure_has_text_and_colours_that_a_page_can_replace(plot):
    plt.rcParams["font.size"] = 7.5  # a reader's own style, which stays
    figure = plot(*DRAWN[plot])
    svg = to_svg(figure)
    assert plt.rcParams["font.size"] == 7.5
    inks = re.findall(r"<text[^>]*fill: (#\w+)", svg)
    assert len(inks) == svg.count("<text") > 3
    assert set(inks) <= {INK, SOFT}
    data = {GREY, BLUE, *("#{:02x}{:02x}{:02x}".format(*colour) for colour in COLOURS)}
    shades = set(re.findall(r"fill: (#\w+); fill-opacity", svg))
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {INK, SOFT, LINE, GROUND} | data | shades
    assert all(text.get_fontsize() >= 9 for text in figure.findobj(plt.Text))
    assert figure.get_figwidth() <= 9


def test_names_with_dollars_are_no_formulas():
    kinds = tuple(kind.model_copy(update={"name": f"${kind.id}_x$ {{"}) for kind in INFO.classes)
    figure = figures.plot_class_counts(IMAGES, INFO.model_copy(update={"classes": kinds}))
    assert ">$2_x$ {</text>" in to_svg(figure)


def test_a_name_that_begins_with_a_line_stands_in_the_legend():
    named = [kind.model_copy(update={"name": f"_$x$ <b> {kind.id}"}) for kind in INFO.classes]
    info = INFO.model_copy(update={"classes": tuple(named)})
    line = {"threshold": [0.0, 0.5, 1], "precision": [0.0, 0.5, 1], "recall": [1, 0.5, 0.0]}
    table = pd.concat([pd.DataFrame({"class": kind.name, **line}) for kind in named])
    svg = to_svg(curves.plot_precision_recall(table, info))
    assert ">1 _$x$ &lt;b&gt; 1</text>" in svg
    assert ">2 _$x$ &lt;b&gt; 2</text>" in svg


def test_class_counts_are_numbers_on_the_left_and_shares_on_the_right():
    left, right = figures.plot_class_counts(IMAGES, INFO).axes
    assert names(left.yaxis) == ["no defect", "bar 1", "bar 2"]
    assert (widths(left), texts(left)) == ([3, 2, 2], ["3", "2", "2"])
    assert (widths(right), texts(right)) == ([50, 33.3333, 33.3333], ["50.0 %", "33.3 %", "33.3 %"])
    assert left.get_xlabel() == "images, of 6"


def test_images_are_counted_by_their_number_of_classes():
    (axes,) = figures.plot_classes_per_image(IMAGES).axes
    assert (names(axes.yaxis), widths(axes)) == (["0", "1", "2"], [3, 2, 1])


def test_the_split_has_each_part_and_how_it_shares_the_classes():
    upper, lower = figures.plot_split(IMAGES, 0, 9, INFO).axes
    assert (names(upper.yaxis), widths(upper)) == (["training", "validation fold", "test"], [4, 2, 9])
    assert widths(lower) == [50, 25, 50, 50, 50, 0]
    assert texts(lower) == ["2", "1", "2", "1", "1", "0"]


def test_areas_are_counted_in_whole_decades_of_pixels():
    first, second = figures.plot_areas(LABELS, INFO).axes
    assert first.get_title(loc="left") == "bar 1: 2 masks, median 456 pixels"
    assert [bar.get_height() for bar in first.patches if bar.get_height()] == [1, 1]
    assert first.patches[0].get_x() == 10
    assert first.patches[-1].get_x() + first.patches[-1].get_width() == pytest.approx(1000)
    assert second.get_title(loc="left") == "bar 2: 0 masks"
    empty = figures.plot_areas(LABELS.assign(hasMask=False), INFO).axes[0]
    assert empty.patches[0].get_x() == 1


def test_the_network_is_drawn_in_its_order():
    upper, lower = figures.plot_network(LAYERS).axes
    assert [bar.get_height() for bar in upper.patches] == [64, 32, 8]
    assert [bar.get_height() for bar in lower.patches] == [4, 16, 99]


def test_the_history_has_its_curves_and_the_kept_epoch():
    loss, dice, rate = figures.plot_history(RATED, 1).axes
    assert [line.get_xdata()[0] for line in loss.lines] == [1, 1, 2]
    np.testing.assert_array_equal(loss.lines[1].get_ydata(), [2.5, np.nan, 2])
    np.testing.assert_array_equal(dice.lines[0].get_ydata(), [0.1, 0.3, 0.6])
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), [0.1, 0.05, 0])
    assert [text.get_text() for text in loss.get_legend().get_texts()][2] == "kept: epoch 2"
    assert rate.get_xlabel() == "epoch"
    assert len(figures.plot_history(HISTORY, 2).axes) == 2


@pytest.mark.parametrize("loss", [[100.01, 100.03], [-2.6e23, 1.0], [0.5, 0.5], [0.5], [np.nan]])
def test_a_history_of_close_huge_or_few_values_is_drawn(loss):
    history = RATED[: len(loss)].assign(loss=loss, val_loss=loss)
    figure = figures.plot_history(history, 0)
    figure.canvas.draw()
    ticks = names(figure.axes[0].yaxis)
    assert len(set(ticks)) == len(ticks)
    assert max(map(len, ticks)) <= 8


def test_losses_stand_over_the_logarithm_of_the_learning_rate_and_the_suggestion_is_marked():
    (axes,) = figures.plot_rates(RATES, 1.26e-4).axes
    batch, smoothed, suggestion = axes.lines
    assert axes.get_xscale() == "log"
    assert {"0.0001", "0.001", "0.01"} <= set(names(axes.xaxis))
    assert batch.get_xydata().tolist() == [[1e-4, 2], [1e-3, 1], [1e-2, 3]]
    assert smoothed.get_ydata().tolist() == [1.8, 1.5, 2.2]
    assert list(suggestion.get_xdata()) == [1.26e-4] * 2
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["of a batch", "smoothed", "suggestion: 0.00013"]


def test_scores_have_their_intervals_and_say_where_there_is_none():
    upper, lower = figures.plot_scores(METRICS, "test part", INFO).axes
    assert (widths(upper), texts(upper)) == ([0.8, 0.9], ["0.8000", "0.9000"])
    assert [list(line.get_xdata()) for line in upper.lines] == [[0.75, 0.82], [0.85, 0.97]]
    assert [text.xy[0] for text in upper.texts] == [0.8, 0.9]
    assert (widths(lower), texts(lower)) == ([0.5, 0], ["0.500", "none"])
    assert lower.get_xlabel().startswith("test part")


def test_baselines_stand_above_this_run():
    (axes,) = figures.plot_baselines(BASELINES, METRICS).axes
    assert names(axes.yaxis) == ["empty", "copy", "this run"]
    assert (widths(axes), texts(axes)) == ([0.8, 0.7, 0.9], ["0.8000", "0.7000", "0.9000"])
    assert list(axes.lines[2].get_xdata()) == [0.85, 0.97]


def test_thresholds_show_the_best_gain_and_frame_the_chosen_one():
    first, second = figures.plot_thresholds(GRID, CHOSEN, INFO).axes
    assert (names(first.xaxis), names(first.yaxis)) == (["0.3", "0.6"], ["0", "0.1"])
    assert texts(first) == ["0.70", "0", "0.90", "-0.25"]
    assert [frame.get_xy() for frame in first.patches] == [(0, 1)]
    assert first.get_title(loc="left") == "bar 1: threshold 0.3, high 0.6, 40 pixels"
    assert not second.patches
    assert second.get_title(loc="left") == "bar 2: never predicted, no threshold gains"


def test_thresholds_of_each_image_stand_beside_those_of_all():
    own = GRID[:1].assign(threshold=0, high_threshold=0, calibrated=0.3, expected_dice=0.3, gain=1.5)
    chosen = [SimpleNamespace(threshold=0, high_threshold=0, minimum_area=0, expected_dice=0.3), CHOSEN[1]]
    first, _ = figures.plot_thresholds(pd.concat([GRID, own]), chosen, INFO).axes
    assert names(first.xaxis) == ["0.3", "0.6", "each\n0.3"]
    assert [frame.get_xy() for frame in first.patches] == [(2, 0)]
    title = "bar 1: each image its threshold, expected Dice 0.3, 0 pixels"
    assert first.get_title(loc="left") == title


def test_confusion_is_in_shares_of_the_true_pixels():
    (axes,) = figures.plot_confusion(COUNTS, INFO).axes
    assert texts(axes) == ["60.0 %", "20.0 %", "40.0 %", "0", "0", "0", "0.1 %", "0", "99.9 %"]
    assert names(axes.yaxis) == ["bar 1\n100 pixels", "bar 2\n0 pixels", "background\n1,000 pixels"]
    assert names(axes.xaxis) == ["bar 1", "bar 2", "background"]
    assert axes.yaxis_inverted()


def test_precision_stands_over_recall_and_a_dot_at_the_threshold_next_to_a_half():
    (axes,) = curves.plot_precision_recall(CURVES, INFO).axes
    curve, dot, absent, _ = axes.lines[4:]
    assert curve.get_xydata().tolist() == [[1.0, 0.2], [0.7, 0.6], [0.1, 1.0]]
    assert dot.get_xydata().tolist() == [[0.7, 0.6]]
    assert len(absent.get_xydata()) == 0
    recall, precision = axes.lines[1].get_xydata().T
    np.testing.assert_allclose(2 * recall * precision / (recall + precision), 0.4)


def test_a_kernel_that_its_first_figure_makes_interactive_stays_so():
    was = plt.isinteractive()
    plt.ioff()
    try:
        # As the notebook's backend does when it is loaded, with the first figure.
        figures.styled(lambda: (plt.ion(), plt.figure())[1])()
        assert plt.isinteractive()
    finally:
        matplotlib.interactive(was)


def test_where_every_fold_validates_the_parts_are_the_folds():
    upper, lower = figures.plot_split(IMAGES.assign(fold=[0, 1, 2, 0, 1, -1]), "every", 9, INFO).axes
    assert names(upper.yaxis) == ["always trains", "fold 0", "fold 1", "fold 2", "test"]
    assert widths(upper) == [1, 2, 2, 1, 9]
    assert len(lower.containers) == 4


def test_a_history_without_validation_has_the_curves_of_training_alone():
    (loss, *_) = figures.plot_history(RATED.assign(val_loss=np.nan, val_foreground_dice=np.nan), 1).axes
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["training", "kept: epoch 2"]
