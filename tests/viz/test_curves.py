"""Charts over thresholds and sizes, by the data that they hold."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from defectmill.viz import curves
from fake_competition import make_info

INFO = make_info()
CURVES = pd.DataFrame({"class": "bar 1", "threshold": [0.1, 0.45, 0.9]})
CURVES[["precision", "recall", "false_alarm_rate"]] = [[0.2, 1.0, 0.9], [0.6, 0.7, 0.3], [1.0, 0.1, 0.0]]
SIZES = pd.DataFrame({"ClassId": [1, 1, 2, 2], "smallest": [64, 256] * 2, "largest": [255, 1023] * 2})
SIZES[["true", "hit", "predicted", "false"]] = [[9, 4, 5, 1], [0, 0, 1, 1], [0, 0, 0, 0], [2000, 1500, 2, 0]]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def widths(axes):
    return [bar.get_width() for bar in axes.patches]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_images_have_precision_over_recall_and_recall_over_false_alarms():
    figure = curves.plot_image_curves(CURVES, INFO)
    left, right = figure.axes
    assert left.lines[0].get_xydata().tolist() == [[1.0, 0.2], [0.7, 0.6], [0.1, 1.0]]
    assert right.lines[0].get_xydata().tolist() == [[0.9, 1.0], [0.3, 0.7], [0.0, 0.1]]
    assert [axes.lines[1].get_xydata().tolist() for axes in (left, right)] == [[[0.7, 0.6]], [[0.3, 0.7]]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bar 1", "bar 2"]
    assert left.get_xlabel() == right.get_ylabel()


def test_images_of_which_all_have_the_class_draw_no_false_alarms():
    right = curves.plot_image_curves(CURVES.assign(false_alarm_rate=np.nan), INFO).axes[1]
    assert np.isnan(right.lines[0].get_xdata()).all()


def test_components_stand_by_class_and_size_true_ones_left_and_predicted_ones_right():
    figure = curves.plot_component_sizes(SIZES, INFO)
    first, first_predicted, second, _ = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["64 to 255", "256 to 1,023"]
    assert (widths(first), texts(first)) == ([9, 0, 4, 0], ["4 of 9", "none"])
    assert (widths(first_predicted), texts(first_predicted)) == ([5, 1, 1, 1], ["1 of 5", "1 of 1"])
    assert texts(second) == ["none", "1,500 of 2,000"]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[:2] == ["bar 1: 4 of 9 hit", "bar 1: 2 of 6 false"]
    assert first.yaxis_inverted()
    assert len(figure.legends[0].get_texts()) == 2


def test_no_components_are_drawn_as_empty_axes():
    assert [texts(axes) for axes in curves.plot_component_sizes(SIZES[:0], INFO).axes] == [[]] * 4
