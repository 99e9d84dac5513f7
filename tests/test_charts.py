"""Curves, read back from their SVG."""

import re
from xml.etree import ElementTree

import numpy as np

from defectmill.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw_curves

SVG = {"training": [0.0, 0.5, 1.0], "held-out fold": [1.0, np.nan, 0.0]}


def points(svg, line):
    found = re.findall(rf'<polyline class="line{line}" points="([^"]*)"', svg)
    return [tuple(map(float, p.split(","))) for p in found[0].split()]


def test_values_stand_at_their_heights_and_epochs():
    svg = draw_curves(SVG, "Dice", (0.0, 1.0))
    left, right, top, low = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM
    middle = (left + right) / 2
    assert points(svg, 0) == [(left, low), (middle, (top + low) / 2), (right, top)]
    assert points(svg, 1) == [(left, top), (right, low)]  # the hole is left out


def test_axes_are_labelled_and_the_picture_is_named():
    root = ElementTree.fromstring(draw_curves({"a": [3.0, 2.0]}, 'a < "b"'))
    assert root.attrib["aria-label"] == 'a < "b"'
    texts = [t.text for t in root.iter("text")]
    assert {"epoch", "1", "2", "2.0", "2.2", "3.0"} <= set(texts)


def test_labels_of_close_and_of_huge_values_can_be_told_apart():
    def heights(values):
        root = ElementTree.fromstring(draw_curves({"a": values}, "loss"))
        return [t.text for t in root.iter("text") if t.attrib["text-anchor"] == "end"]

    close, huge = heights([100.01, 100.03]), heights([-2.6e23, 1.0])
    assert len(set(close)) == len(close)
    assert max(map(len, huge)) <= len("-2.6e+23")


def test_a_single_epoch_and_equal_values_are_drawn():
    svg = draw_curves({"a": [0.5]}, "one")
    ((x, y),) = points(svg, 0)
    assert x == LEFT
    assert TOP <= y <= HEIGHT - BOTTOM
    ElementTree.fromstring(draw_curves({"a": [np.nan]}, "none"))
