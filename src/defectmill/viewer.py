"""A viewer of pictures and their masks, for a live notebook.

At every zoom it shows the same number of pixels: a part of the picture, resized, then tinted.
"""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from defectmill.cards import Card
from defectmill.image_table import pick_examples, read_with_masks
from defectmill.images import encode_image, read_image, resize_image, resize_masks
from defectmill.labels import draw_runs, runs_by_image
from defectmill.overlays import overlay, show_sheet

if TYPE_CHECKING:
    from ipywidgets import VBox

SHAPE = (640, 1100)  # at most so many pixels of the screen
ZOOMS = (1, 2, 4, 8, 16)


def view_images(folder: Path, labels: pd.DataFrame, card: Card) -> "VBox | Figure":
    """Let the reader look through the images of a label table; run by make, show a few.

    Args:
        folder: has a picture for every image of the table.
    """
    if os.environ.get("DEFECTMILL_BATCH"):
        return show_few(folder, labels, card)
    return Viewer(folder, labels, card).box


def show_few(folder: Path, labels: pd.DataFrame, card: Card) -> Figure:
    """Tint images of each class, of middling area, and clean ones: six at most."""
    kinds = [*(kind.id for kind in card.classes), 0]
    each = max(1, 6 // len(kinds))
    picks = list(dict.fromkeys(i for k in kinds for i in pick_examples(labels, k, each)))[:6]
    pictures, masks = read_with_masks(folder, labels, picks, len(card.classes))
    figure = show_sheet(pictures, masks, picks, card.title, card)
    plt.close(figure)  # an open one a notebook shows twice: as it stands and as the cell's value
    return figure


def find_part(shape: tuple[int, int], zoom: int, down: float, across: float) -> tuple[slice, slice]:
    """Find the rows and columns that a zoom shows.

    Args:
        down, across: where the part lies, from 0 (top, left) to 1 (bottom, right).
    """
    sides = [math.ceil(side / zoom) for side in shape]
    starts = [round(x * (n - s)) for x, n, s in zip((down, across), shape, sides, strict=True)]
    rows, columns = (slice(a, a + s) for a, s in zip(starts, sides, strict=True))
    return rows, columns


def fit_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a (H, W) mask to `shape`; shrunk, a pixel counts where any of its own does, so that
    no defect vanishes."""
    if mask.shape[0] <= shape[0]:
        return resize_masks(mask[:, :, None], shape)[:, :, 0]
    return resize_image(np.float32(mask)[:, :, None], shape)[:, :, 0] > 0


class Viewer:
    """The widgets of a viewer; `box` is what a notebook shows."""

    def __init__(self, folder: Path, labels: pd.DataFrame, card: Card):
        # Here, so that a notebook's first figure does not wait for it.
        import ipywidgets as widgets

        self._folder, self._card, self._runs = folder, card, runs_by_image(labels)
        kinds = [("all", None), *((kind.title, kind.id) for kind in card.classes), ("clean", 0)]
        kinds = [(name, kind) for name, kind in kinds if self._list_ids(kind)]
        self.kind = widgets.Dropdown(options=kinds, description="images")
        self.number = widgets.IntSlider(min=1, max=len(self._runs), description="number")
        self.classes = [
            widgets.ToggleButton(
                value=True, description=kind.title,
                layout=widgets.Layout(border_bottom=f"5px solid {to_hex(shade)}"),
            )
            for kind, shade in zip(card.classes, card.shades, strict=True)
        ]  # fmt: skip
        self.opacity, self.down, self.across = (
            widgets.FloatSlider(value=value, max=1, step=0.05, description=name)
            for name, value in (("opacity", 0.35), ("down", 0.5), ("across", 0.5))
        )
        self.zoom = widgets.SelectionSlider(options=ZOOMS, description="zoom")
        self.caption, self.picture = widgets.Label(), widgets.Image(format="jpeg")
        self.box = widgets.VBox([
            widgets.HBox([self.kind, self.number, self.opacity]),
            widgets.HBox([self.zoom, self.down, self.across]),
            widgets.HBox(self.classes), self.caption, self.picture,
        ])  # fmt: skip
        self.kind.observe(self._choose, "value")
        self.number.observe(self._load, "value")
        for control in (*self.classes, self.opacity, self.zoom, self.down, self.across):
            control.observe(self._draw, "value")
        self._choose()

    def _list_ids(self, kind: int | None) -> list[str]:
        """Images that have a class; 0: none, None: all."""
        if kind is None:
            return list(self._runs)
        return [i for i, runs in self._runs.items() if (kind in runs if kind else not runs)]

    def _choose(self, _change: object = None) -> None:
        self._ids = self._list_ids(self.kind.value)
        with self.number.hold_trait_notifications():
            self.number.value, self.number.max = 1, len(self._ids)
        self._load()

    def _load(self, _change: object = None) -> None:
        """Read the picture; one that cannot be shown says so in its caption."""
        self._image_id = self._ids[self.number.value - 1]
        runs, n_classes = self._runs[self._image_id], len(self._card.classes)
        try:
            self._image = read_image(self._folder / self._image_id, 3)
            self._masks = draw_runs(runs, self._image.shape[:2], n_classes, self._image_id)
        except ValueError as error:
            self._image = np.zeros((1, 1, 3), np.uint8)
            self._masks = np.zeros((1, 1, n_classes), np.uint8)
            self._image_id = str(error)
        self._draw()

    def _draw(self, _change: object = None) -> None:
        whole = self._image.shape[:2]
        part = find_part(whole, self.zoom.value, self.down.value, self.across.value)
        image, masks = self._image[part], self._masks[part]
        factor = min(most / side for most, side in zip(SHAPE, image.shape[:2], strict=True))
        shape = tuple(max(1, round(side * factor)) for side in image.shape[:2])
        shown = np.zeros((*shape, len(self.classes)), np.uint8)
        for channel, toggle in enumerate(self.classes):
            if toggle.value and masks[:, :, channel].any():
                shown[:, :, channel] = fit_mask(masks[:, :, channel], shape)
        tinted = overlay(resize_image(image, shape), shown, self._card, self.opacity.value)
        self.picture.value = encode_image(tinted, ".jpg", 90)
        rows, columns = part
        self.caption.value = (
            f"{self._image_id}: {whole[0]} x {whole[1]}, rows {rows.start} to {rows.stop - 1}, "
            f"columns {columns.start} to {columns.stop - 1}"
        )
