"""The four defects of the sample's steel, and the outline that an annotator would draw around them.

A defect is first drawn as `ink`, (256, W) uint8: 255 where it is fully seen, 0 where it is not. The functions
of DRAW take (rng, steel) and give the steel with the defect, (256, W) float32 in grey levels, and its mask,
(256, W) uint8 in {0, 1}; W is a multiple of CELL.
"""

from itertools import pairwise

import cv2
import numpy as np

from defectmill.datasets.sample.texture import HEIGHT, make_noise

CELL = 4  # pixels of the grid on which masks are traced
MIN_AREA = 30  # pixels of the smallest connected component in a mask


def drop_specks(mask: np.ndarray) -> np.ndarray:
    """Give a (H, W) uint8 mask in {0, 1} without connected components smaller than MIN_AREA pixels."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    specks = [line for line in outlines if cv2.contourArea(line) < MIN_AREA]
    return cv2.drawContours(mask.copy(), specks, -1, 0, cv2.FILLED)


def _trace(ink: np.ndarray, margin: int) -> np.ndarray:
    """Trace ink by polygons `margin` pixels or so away, which join near pieces, as a mask in {0, 1}."""
    coarse = ink.reshape(-1, CELL, ink.shape[1] // CELL, CELL).max(axis=(1, 3))
    # Beyond the border the outline goes on, else masks would stop short of it.
    coarse = cv2.copyMakeBorder(coarse, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
    size = 2 * max(1, round(margin / CELL)) + 1
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    coarse = cv2.erode(cv2.dilate(coarse, pen, iterations=2), pen)  # twice out, once in: joins
    outlines, _ = cv2.findContours(coarse, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    slack = max(0.9, margin / 10)  # grid steps; a generous outline follows less of the shape
    mask = np.zeros(ink.shape, np.uint8)
    for line in outlines:
        polygon = (cv2.approxPolyDP(line, slack, True) - 2) * CELL + CELL // 2
        cv2.fillPoly(mask, [polygon], 1)
    return mask


def _tint(steel: np.ndarray, ink: np.ndarray, gain: float | np.ndarray) -> np.ndarray:
    """Multiply grey levels by `gain`, a number or (256, W), under the ink, with a camera's soft edges."""
    cover = cv2.GaussianBlur(ink, (3, 3), 0.8).astype(np.float32) / 255
    return steel * (1 + (gain - 1) * cover)


def _draw_pits(rng: np.random.Generator, steel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw class 1: clusters of small dark pits, some with a lit lip."""
    dark, lit = np.zeros((2, *steel.shape), np.uint8)
    for _ in range(rng.integers(1, 9)):
        centre = rng.uniform((26, 10), (steel.shape[1] - 26, HEIGHT - 10))
        spread = rng.uniform((4, 8), (9, 20))
        for offset in np.clip(rng.standard_normal((rng.integers(7, 20), 2)), -1.7, 1.7):
            x, y = (centre + spread * offset).astype(int).tolist()
            size = rng.integers(1, (4, 6)).tolist()
            cv2.ellipse(dark, (x, y), size, rng.uniform(-30, 30), 0, 360, rng.uniform(110, 255), -1)
            if rng.random() < 0.4:
                cv2.circle(lit, (x + size[0], y + 1), 1, rng.uniform(90, 255), -1)
    return _tint(_tint(steel, dark, rng.uniform(0.1, 0.35)), lit, rng.uniform(1.6, 2.6)), _trace(dark, 8)


def _draw_cracks(rng: np.random.Generator, steel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw class 2: one or two thin jagged cracks along the strip, with short spurs."""
    ink = np.zeros(steel.shape, np.uint8)
    for _ in range(rng.integers(1, 3)):
        top = rng.integers(-40, 150)
        y = np.arange(top, top + rng.integers(90, 256), 5)
        steps = rng.normal(rng.normal(0, 0.4), 1.6, len(y))
        x = rng.uniform(30, steel.shape[1] - 30) + np.cumsum(steps)
        for start, stop in pairwise(np.stack([x, y], 1).astype(np.int32)):
            cv2.line(ink, start.tolist(), stop.tolist(), 255, int(rng.integers(1, 4)))
            if rng.random() < 0.22:
                spur = start + rng.integers((-9, 3), (10, 14))
                cv2.line(ink, start.tolist(), spur.tolist(), 255, 1)
    lip = np.roll(ink, 3, axis=1)  # the far side of the gap catches the light
    return _tint(_tint(steel, lip, rng.uniform(1.1, 1.6)), ink, rng.uniform(0.15, 0.4)), _trace(ink, 6)


def _draw_scratches(rng: np.random.Generator, steel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw class 3: dark lines along the strip, groups of dashes, or bright oblique scratches."""
    ink = np.zeros(steel.shape, np.uint8)
    kind = (_ink_lines, _ink_dashes, _ink_spindles)[rng.choice(3, p=[0.4, 0.3, 0.3])]
    is_bright, margin = kind(rng, ink)
    gain = rng.uniform(1.6, 2.3) if is_bright else rng.uniform(0.35, 0.68)
    ragged = np.clip(1 + 0.45 * make_noise(rng, steel.shape, (28, 3)), 0.25, 1.4)
    painted = _tint(steel, ink, 1 + (gain - 1) * ragged)
    # Torn metal glints along a mark.
    y, x = np.nonzero(ink)
    torn = rng.integers(0, max(1, len(y)), len(y) // 40)
    painted[y[torn], x[torn]] *= rng.uniform(1, 3)
    return painted, _trace(ink, margin)


def _ink_lines(rng: np.random.Generator, ink: np.ndarray) -> tuple[bool, int]:
    """Draw long straight marks along the strip; give whether they are bright, and the mask's margin."""
    lean = rng.normal(0, 0.03)
    for _ in range(rng.integers(1, 7)):
        x = int(rng.integers(6, ink.shape[1] - 6))
        cut = rng.integers(-60, 140)  # rows that the mark falls short of the far border
        top, bottom = (cut, HEIGHT) if rng.random() < 0.5 else (0, HEIGHT - cut)
        half = rng.integers(2, 6)
        foot = x + round(lean * (bottom - top))
        ends = [(x - half, top), (x + half, top), (foot + half // 2, bottom), (foot - half, bottom)]
        cv2.fillPoly(ink, [np.array(ends, np.int32)], 255)
    return rng.random() < 0.12, 8


def _ink_dashes(rng: np.random.Generator, ink: np.ndarray) -> tuple[bool, int]:
    """Draw groups of dashes along the strip; give what `_ink_lines` does."""
    for _ in range(rng.integers(1, 4)):
        centre = rng.uniform((40, 60), (ink.shape[1] - 40, HEIGHT - 60))
        spread = rng.uniform((15, 30), (60, 90))
        for _ in range(rng.integers(8, 26)):
            x, y = (centre + spread * rng.uniform(-1.2, 1.2, 2)).astype(int).tolist()
            half, length = rng.integers((1, 20), (5, 110)).tolist()
            sides = [(0, 0), (half, 2 * length // 3), (0, length), (-half, length // 4)]
            cv2.fillPoly(ink, [np.add(sides, (x, y)).astype(np.int32)], 255)
    return rng.random() < 0.2, 12


def _ink_spindles(rng: np.random.Generator, ink: np.ndarray) -> tuple[bool, int]:
    """Draw oblique spindles, nearly parallel; give what `_ink_lines` does."""
    turn = rng.uniform(0.15, np.pi - 0.15)
    for _ in range(rng.integers(2, 9)):
        angle = turn + rng.normal(0, 0.06)
        along = np.array([np.cos(angle), np.sin(angle)])
        across = along[::-1] * (1, -1) * rng.uniform(2, 6)
        centre = rng.uniform((20, 10), (ink.shape[1] - 20, HEIGHT - 10))
        reach = along * rng.uniform(25, 120)
        corners = [centre - reach, centre + 0.4 * reach + across, centre + reach, centre - across]
        cv2.fillPoly(ink, [np.array(corners).astype(np.int32)], 255)
    return rng.random() < 0.75, 8


def _draw_patches(rng: np.random.Generator, steel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw class 4: large irregular patches of layered or of dull rolled-in scale."""
    ink = np.zeros(steel.shape, np.uint8)
    for _ in range(rng.integers(1, 5)):
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        torn = np.roll(make_noise(rng, (1, 48), (1, 5))[0], 7) + rng.normal(0, 0.25, 48)
        radius = rng.uniform((35, 25), (min(150, steel.shape[1] / 3), 85))
        circle = np.stack([np.cos(turn), np.sin(turn)], 1) * np.exp(0.2 * torn)[:, None]
        centre = rng.uniform((1.2 * radius[0], 0), (steel.shape[1] - 1.2 * radius[0], HEIGHT))
        cv2.fillPoly(ink, [(centre + radius * circle).astype(np.int32)], 255)
    height = 1.8 * make_noise(rng, steel.shape, (30, 70)) + make_noise(rng, steel.shape, (8, 15))
    layers = np.floor(height) + np.clip(4 * (height % 1), 0, 1)  # terraces with short slopes
    layers += cv2.GaussianBlur(ink, (5, 5), 1.2) / np.float32(90)  # the patch lies on the strip
    relief = np.clip(cv2.Sobel(layers, cv2.CV_32F, 0, 1) / 3, -0.9, 1.3)  # lit from below
    crust = 0.35 * make_noise(rng, steel.shape, (3, 4))
    gain = rng.uniform(0.5, 0.85) + rng.uniform(0.15, 0.75) * (relief + crust)
    return _tint(steel, ink, np.maximum(gain, 0.1)), _trace(ink, 5)


DRAW = {1: _draw_pits, 2: _draw_cracks, 3: _draw_scratches, 4: _draw_patches}
