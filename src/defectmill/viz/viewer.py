"""A viewer of images and their masks, for a live notebook.

At every zoom it shows the same number of pixels: a part of the image, resized, then tinted.
"""

import math
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from defectmill import files
from defectmill.dataset_info import DatasetInfo
from defectmill.images import encode_image, overlay, read_image, resize_image, resize_masks
from defectmill.labels import draw_runs, runs_by_image
from defectmill.viz.pictures import pick_examples, read_with_masks, show_sheet

SHAPE = (640, 1100)  # at most so many pixels of the screen
ZOOMS = (1, 2, 4, 8, 16)


def view_images(folder: Path, labels: pd.DataFrame, info: DatasetInfo) -> Any:
    """Let the reader look through the images of a label table: a widget; run by make, a Figure of a few.

    Args:
        folder: has a file for every image of the table.
    """
    if not files.is_unattended():
        return Viewer(folder, labels, info).box
    wanted = [*(kind.id for kind in info.classes), 0]
    each = max(1, 6 // len(wanted))
    picks = list(dict.fromkeys(i for c in wanted for i in pick_examples(labels, c, each)))[:6]
    figure = show_sheet(*read_with_masks(folder, labels, picks, info.n_classes), picks, info.title, info)
    plt.close(figure)  # an open one a notebook shows twice: as it stands and as the cell's value
    return figure


def find_part(shape: tuple[int, ...], zoom: int, down: float, across: float) -> tuple[slice, slice]:
    """Find the rows and columns that a zoom shows; `down` and `across` go from 0 (top, left) to 1."""
    sides = [math.ceil(side / zoom) for side in shape]
    starts = [round(x * (n - s)) for x, n, s in zip((down, across), shape, sides, strict=True)]
    return slice(starts[0], starts[0] + sides[0]), slice(starts[1], starts[1] + sides[1])


def fit_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a (H, W) mask; shrunk, a pixel counts where any of its own does: no defect vanishes."""
    if mask.shape[0] <= shape[0]:
        return resize_masks(mask[:, :, None], shape)[:, :, 0]
    return resize_image(mask[:, :, None].astype(np.float32), shape)[:, :, 0] > 0


class Viewer:
    """The widgets of a viewer; `box` is what a notebook shows."""

    def __init__(self, folder: Path, labels: pd.DataFrame, info: DatasetInfo):
        import ipywidgets as widgets

        self._folder, self._info, self._runs = folder, info, runs_by_image(labels)
        ids = {"all": tuple(self._runs)}
        ids |= {
            kind.title: tuple(i for i, runs in self._runs.items() if kind.id in runs) for kind in info.classes
        }
        ids["clean"] = tuple(i for i, runs in self._runs.items() if not runs)
        options = [(name, some) for name, some in ids.items() if some]
        self.kind = widgets.Dropdown(options=options, description="images")
        self.number = widgets.IntSlider(min=1, max=len(self._runs), description="number")
        self.classes = [widgets.ToggleButton(value=True, description=kind.title) for kind in info.classes]
        for toggle, colour in zip(self.classes, info.colours, strict=True):
            toggle.layout.border_bottom = f"5px solid rgb{colour}"
        self.opacity, self.down, self.across = (
            widgets.FloatSlider(value=value, max=1, step=0.05, description=name)
            for name, value in (("opacity", 0.35), ("down", 0.5), ("across", 0.5))
        )
        self.zoom = widgets.SelectionSlider(options=ZOOMS, description="zoom")
        self.caption, self.picture = widgets.Label(), widgets.Image(format="jpeg")
        rows = [self.kind, self.number, self.opacity], [self.zoom, self.down, self.across], self.classes
        self.box = widgets.VBox([*map(widgets.HBox, rows), self.caption, self.picture])
        self.kind.observe(self._choose, "value")
        self.number.observe(self._load, "value")
        for control in (*self.classes, self.opacity, self.zoom, self.down, self.across):
            control.observe(self._draw, "value")
        self._choose()

    def _choose(self, _change: object = None) -> None:
        with self.number.hold_trait_notifications():
            self.number.value, self.number.max = 1, len(self.kind.value)
        self._load()

    def _load(self, _change: object = None) -> None:
        """Read the image; the caption tells of one that cannot be shown."""
        self._image_id, n = self.kind.value[self.number.value - 1], self._info.n_classes
        try:
            self._image = read_image(self._folder / self._image_id, 3)
            self._masks = draw_runs(self._runs[self._image_id], self._image.shape[:2], n, self._image_id)
        except files.DefectmillError as error:
            self._image, self._masks = np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, n), np.uint8)
            self._image_id = str(error)
        self._draw()

    def _draw(self, _change: object = None) -> None:
        whole = self._image.shape[:2]
        rows, columns = find_part(whole, self.zoom.value, self.down.value, self.across.value)
        image, masks = self._image[rows, columns], self._masks[rows, columns]
        height, width = image.shape[:2]
        factor = min(SHAPE[0] / height, SHAPE[1] / width)
        shape = max(1, round(height * factor)), max(1, round(width * factor))
        shown = np.zeros((*shape, len(self.classes)), np.uint8)
        for channel, toggle in enumerate(self.classes):
            if toggle.value and masks[:, :, channel].any():
                shown[:, :, channel] = fit_mask(masks[:, :, channel], shape)
        tinted = overlay(resize_image(image, shape), shown, self._info.colours, self.opacity.value)
        self.picture.value = encode_image(tinted, ".jpg", 90)
        part = f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}"
        self.caption.value = f"{self._image_id}: {whole[0]} x {whole[1]}, {part}"
