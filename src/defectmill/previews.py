"""Previews: what the network says of some held-out pictures after each epoch."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from PIL import Image, ImageDraw

from defectmill.cards import Card
from defectmill.config import Experiment
from defectmill.images import read_image, resize_image, write_image
from defectmill.inference import predict_probs
from defectmill.labels import draw_runs
from defectmill.overlays import overlay
from defectmill.pictures import Pictures
from defectmill.postprocess import keep_likeliest

SHARE = 0.05  # of an epoch's time that previews may take, on average
WIDTH, GAP, TITLE = 240, 6, 18  # pixels


class Previews(keras.callbacks.Callback):
    """Draws a strip after an epoch, and all strips as one film at the end.

    Writes previews/epoch_001.png... and previews.gif under the experiment's output. Where the
    strips would take more than a twentieth of the training time, it draws fewer, and says so.
    """

    def __init__(self, experiment: Experiment, pictures: Pictures, share: float = SHARE):
        super().__init__()
        self.experiment, self.share = experiment, share
        self.card = experiment.card
        self.image_ids = choose_pictures(pictures.runs, experiment.training.previews)
        self.pictures = [
            read_image(pictures.folder / i, experiment.data.channels) for i in self.image_ids
        ]
        self.truths = [
            draw_runs(pictures.runs[i], pictures.shapes[i], len(self.card.classes))
            for i in self.image_ids
        ]
        self.folder = experiment.output / "previews"
        self._next, self._costs, self._began = 0, [], 0.0

    def on_train_begin(self, logs=None):
        self.folder.mkdir(parents=True, exist_ok=True)
        for old in self.folder.glob("epoch_*.png"):
            old.unlink()

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if epoch < self._next:
            return
        started = time.perf_counter()
        answers = [self._answer(picture) for picture in self.pictures]
        strip = draw_strip(self.pictures, self.truths, answers, self.card, f"epoch {epoch + 1}")
        write_image(self.folder / f"epoch_{epoch + 1:03}.png", strip)
        self._costs.append(time.perf_counter() - started)
        every = max(1, math.ceil(min(self._costs) / (self.share * (started - self._began))))
        self._next = epoch + every
        if every > 1:
            print(f"previews take {min(self._costs):.1f} s of an epoch of "
                  f"{started - self._began:.0f} s: the next one after {every} epochs")  # fmt: skip

    def on_train_end(self, logs=None):
        write_film(self.folder)

    def _answer(self, picture: np.ndarray) -> np.ndarray:
        probs = predict_probs(self.model, picture, self.experiment)
        probs = keep_likeliest(probs) if self.card.exclusive else probs
        return (probs > 0.5).astype(np.uint8)


def choose_pictures(runs: dict[str, dict[int, str]], n: int) -> list[str]:
    """Pick n image ids, the classes in turn, then any."""
    with_class: dict[int, list[str]] = {}
    for image_id, present in runs.items():
        for class_id in present:
            with_class.setdefault(class_id, []).append(image_id)
    turns = [ids[place] for place in range(n) for _, ids in sorted(with_class.items())
             if place < len(ids)]  # fmt: skip
    return list(dict.fromkeys([*turns, *runs]))[:n]


def draw_strip(
    pictures: Sequence[np.ndarray], truths: Sequence[np.ndarray], answers: Sequence[np.ndarray],
    card: Card, title: str,
) -> np.ndarray:  # fmt: skip
    """Truth and the names of the classes above, prediction below, one column a picture.

    Returns:
        (H, W, 3) uint8.
    """
    heights = [round(WIDTH * p.shape[0] / p.shape[1]) for p in pictures]
    rows = max(heights)
    sides = 2 * (TITLE + rows) + GAP, len(pictures) * (WIDTH + GAP) - GAP
    canvas = Image.new("RGB", sides[::-1], "white")
    pen = ImageDraw.Draw(canvas)
    left = 48
    for one in card.classes:
        pen.rectangle((left, 4, left + 9, 13), fill=one.colour)
        pen.text((left + 14, 2), one.name, fill="black")
        left += 28 + round(pen.textlength(one.name))
    for line, (name, masks) in enumerate((("truth", truths), (f"prediction, {title}", answers))):
        top = line * (TITLE + rows + GAP)
        pen.text((2, top + 2), name, fill="black")
        for column, (picture, mask, height) in enumerate(
            zip(pictures, masks, heights, strict=True)
        ):
            cell = resize_image(overlay(picture, mask, card), (height, WIDTH))
            canvas.paste(Image.fromarray(cell), (column * (WIDTH + GAP), top + TITLE))
    return np.asarray(canvas)


def write_film(folder: Path) -> None:
    """Write the strips of a folder as <folder>.gif, half a second each."""
    frames = [Image.fromarray(read_image(path, 3)) for path in sorted(folder.glob("epoch_*.png"))]
    if frames:
        work = folder.with_suffix(".part")
        frames[0].save(work, "GIF", save_all=True, append_images=frames[1:], duration=500, loop=0)
        work.replace(folder.with_suffix(".gif"))
