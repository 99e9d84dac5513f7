"""From a picture to the probabilities of its pixels, by one network; settings: its row of "networks"."""

import cv2
import numpy as np

FLIPS = {"horizontal": (1,), "vertical": (0,), "both": (0, 1)}


def read_picture(path, channels, bits=0):
    """Read a picture as it is stored, (H, W, channels) uint8; of 16 bits the camera's lowest go."""
    data, colours = np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR
    how = colours | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    picture = cv2.imdecode(data, how) if data.size else None
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path}: not a readable picture of 8 or 16 bits a channel")
    if picture.dtype == np.uint16:
        needed = next(n for n in (8, 10, 12, 14, 16) if picture.max() < 1 << n)
        if bits and needed > bits:
            raise ValueError(f"{path}: holds {picture.max()}, which {bits} bits cannot")
        picture = (picture >> ((bits or needed) - 8)).astype(np.uint8)
    return picture[:, :, None] if channels == 1 else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def predict(run, picture, settings):
    """Give the probabilities of a picture, (H, W, C) float32, averaged over flips and scales.

    `run` takes (1, h, w, channels) float32 0..255, whose sides are multiples of settings["stride"].
    """
    sides = settings["shape"] or [max(1, round(side * settings["scale"])) for side in picture.shape[:2]]
    axes, means = [(), *(FLIPS[flip] for flip in settings["flips"])], []
    for scale in settings["scales"]:
        size = tuple(max(1, round(side * scale)) for side in sides)
        shown = resize(picture, size).astype(np.float32)
        maps = [np.flip(predict_shown(run, np.flip(shown, a), settings), a) for a in axes]
        mean = np.ascontiguousarray(np.mean(maps, axis=0), np.float32)
        means.append(resize(mean, picture.shape[:2]))
    return np.clip(np.mean(means, axis=0), 0, 1)


def resize(array, size):
    """Resize (H, W, C); averages when it shrinks."""
    if array.shape[:2] == tuple(size):
        return array
    shrinks = size[0] * size[1] < array.shape[0] * array.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # By four channels: INTER_AREA takes no more.
    parts = [
        cv2.resize(array[:, :, c : c + 4], size[::-1], interpolation=how) for c in range(0, array.shape[2], 4)
    ]
    return np.concatenate([part.reshape(*size, -1) for part in parts], axis=2)


def predict_shown(run, shown, settings):
    """Predict (h, w, channels) float32 whole, or in tiles that overlap and are blended by a Hann window."""
    if not settings["tiles"]:
        return predict_padded(run, shown, settings)
    shape, overlap, sides = settings["tiles"]["shape"], settings["tiles"]["overlap"], shown.shape[:2]
    tops, lefts = (
        np.linspace(0, max(0, side - tile), max(1, -(-(side - overlap) // (tile - overlap))))
        for side, tile in zip(sides, shape, strict=True)
    )
    hann = (np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 + 1e-3 for n in shape)
    window = np.outer(*(one.astype(np.float32) for one in hann))[:, :, None]
    total, weights = 0, np.zeros((*sides, 1), np.float32)
    for top, left in [(round(top), round(left)) for top in tops for left in lefts]:
        tile = shown[top : top + shape[0], left : left + shape[1]]
        height, width = tile.shape[:2]
        tile = np.pad(tile, [(0, shape[0] - height), (0, shape[1] - width), (0, 0)], "symmetric")
        probs = predict_padded(run, tile, settings) * window
        total = np.zeros((*sides, probs.shape[2]), np.float32) if isinstance(total, int) else total
        total[top : top + height, left : left + width] += probs[:height, :width]
        weights[top : top + height, left : left + width] += window[:height, :width]
    return total / weights


def predict_padded(run, shown, settings):
    """Predict at sides that the network takes, the edge repeated below and right; background is dropped."""
    height, width = shown.shape[:2]
    lacking = [(0, -side % settings["stride"]) for side in (height, width)]
    probs = run(np.ascontiguousarray(np.pad(shown, [*lacking, (0, 0)], "edge")[None]))[0]
    if not np.isfinite(probs).all():
        raise ValueError("the network gives probabilities that are nan or inf")
    return probs[:height, :width, int(settings["background"]) :]
