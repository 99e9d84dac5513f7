"""Rolled steel without a defect, and the marks on it that are none.

All marks multiply the grey levels, so each looks the same under strong and under weak light.
Coordinates are (x, y) in pixels; fields are (256, 1600) float32 in grey levels."""

from __future__ import annotations

import cv2
import numpy as np

HEIGHT, WIDTH = 256, 1600


def make_noise(
    rng: np.random.Generator, shape: tuple[int, int], cell: tuple[float, float]
) -> np.ndarray:
    """Make smooth noise from random values on a coarse grid.

    Args:
        shape: (rows, columns) of the result.
        cell: (height, width) in pixels of a step of the grid: the size of the lumps.
    Returns:
        `shape` float32, mean about 0, standard deviation about 0.8.
    """
    grid = [int(size / step) + 2 for size, step in zip(shape, cell, strict=True)]
    coarse = rng.standard_normal(grid, np.float32)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)


def draw_steel(rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """Draw clean steel with its harmless marks.

    Returns:
        (256, 1600) float32 grey levels, not yet clipped, and the columns (left, right) between
        which there is steel, multiples of 4; outside the picture is black.
    """
    steel = draw_light(rng)
    if rng.random() < 0.8:
        add_skin(rng, steel)
    if rng.random() < 0.35:
        add_ripples(rng, steel)
    add_grain(rng, steel)
    for _ in range(rng.integers(0, 7)):
        add_smudge(rng, steel)
    add_seams(rng, steel)
    add_dust(rng, steel)
    return steel, cut_strip(rng, steel)


def draw_light(rng: np.random.Generator) -> np.ndarray:
    """Draw the uneven light on the strip and the bands that the rolls leave along it.

    Returns:
        (256, 1600) float32 grey levels.
    """
    level = rng.uniform(25, 45) if rng.random() < 0.07 else rng.uniform(65, 125)
    lamp = 0.17 * make_noise(rng, (HEIGHT, WIDTH), (600, 450))
    bands = 0.05 * make_noise(rng, (1, WIDTH), (1, 60)) + 0.03 * make_noise(rng, (1, WIDTH), (1, 9))
    for edge in rng.integers(0, WIDTH, rng.integers(0, 5)):
        bands[:, edge:] += rng.uniform(-0.09, 0.09)
    return level * np.exp(np.clip(lamp, -0.5, 0.4) + bands)


def add_skin(rng: np.random.Generator, steel: np.ndarray) -> None:
    """Add torn lighter or darker skin, drawn out along the strip, to some ranges of columns."""
    half = (HEIGHT // 2, WIDTH // 2)
    lumps = make_noise(rng, half, (30, 5)) + 0.6 * make_noise(rng, half, (6, 2.5))
    where = make_noise(rng, (1, half[1]), (1, 50))
    torn = np.clip(4 * (lumps + where - rng.uniform(0.6, 2.6)), 0, 1)
    torn = cv2.resize(torn, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    steel *= 1 + rng.choice([-1, 1]) * rng.uniform(0.08, 0.24) * torn


def add_ripples(rng: np.random.Generator, steel: np.ndarray) -> None:
    """Add fine waves across the strip, strong in some columns and absent in others."""
    quarter = (HEIGHT, WIDTH // 4)
    bend = rng.uniform(6, 16) * make_noise(rng, quarter, (200, 80))
    phase = np.arange(HEIGHT, dtype=np.float32)[:, None] + bend
    waves = np.sin(phase * np.float32(2 * np.pi / rng.uniform(5, 11)))
    waves *= np.clip(make_noise(rng, (1, quarter[1]), (1, 60)), 0, 1.2)
    steel *= 1 + rng.uniform(0.05, 0.13) * cv2.resize(waves, (WIDTH, HEIGHT))


def add_grain(rng: np.random.Generator, steel: np.ndarray) -> None:
    """Add the grain of the metal and of the camera, short dark flecks and glints."""
    # bytes are drawn far faster than normal numbers, and the blur makes them nearly normal
    noise = rng.integers(0, 256, steel.shape, np.uint8).astype(np.float32) / 74 - 1.72
    fine = cv2.GaussianBlur(noise, (3, 3), 0.6)
    drawn = cv2.blur(noise, (1, 9))  # along the strip
    flecks = np.clip(drawn - rng.uniform(0.75, 1.1), 0, 0.4)
    grain = cv2.addWeighted(fine, rng.uniform(0.07, 0.14), drawn, rng.uniform(0.05, 0.16), 1)
    steel *= cv2.scaleAdd(flecks, -0.8, grain)
    steel += 1.5 * fine
    # glints saturate the camera: no threshold on brightness tells them from a bright scratch
    amount = int(rng.lognormal(6, 1))
    x = rng.normal(rng.uniform(0, WIDTH), rng.uniform(100, 900), amount).astype(int) % WIDTH
    y = rng.integers(0, HEIGHT, amount)
    steel[y, x] *= rng.uniform(1.2, 3.2, amount).astype(np.float32)


def add_smudge(rng: np.random.Generator, steel: np.ndarray) -> None:
    """Add one oil streak or dark smudge with soft edges, or the pale rim of a dried drop."""
    x, y = rng.integers(0, WIDTH), rng.integers(0, HEIGHT)
    is_drop = rng.random() < 0.3
    long, wide = rng.uniform(*(((15, 12), (45, 30)) if is_drop else ((20, 5), (110, 22))))
    turn = rng.normal(0, 0.25)
    reach = 2 * long, 2 * (wide + abs(turn) * long)
    rows = slice(max(0, y - int(reach[0])), min(HEIGHT, y + int(reach[0])))
    columns = slice(max(0, x - int(reach[1])), min(WIDTH, x + int(reach[1])))
    window = steel[rows, columns]
    dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - y
    dx = np.arange(columns.start, columns.stop, dtype=np.float32)[None] - x
    along, across = dy * np.cos(turn) + dx * np.sin(turn), dx * np.cos(turn) - dy * np.sin(turn)
    distance = np.hypot(along / np.float32(long), across / np.float32(wide))
    distance += 0.16 * make_noise(rng, window.shape, (14, 10))
    if is_drop:
        rim = np.exp(-(((distance - 1) / 0.09) ** 2))
        window *= 1 + rng.uniform(0.05, 0.16) * rim - 0.06 * (distance < 1)
    else:
        window *= 1 - rng.uniform(0.12, 0.5) * np.exp(-1.8 * distance**2)


def add_seams(rng: np.random.Generator, steel: np.ndarray) -> None:
    """Add faint thin lines along the strip, fading in and out."""
    for x in rng.integers(0, WIDTH - 3, rng.integers(0, 7)):
        fade = np.clip(0.5 + make_noise(rng, (HEIGHT, 1), (60, 1)), 0, 1)
        steel[:, x : x + rng.integers(1, 4)] *= 1 + rng.choice([-1.0, 0.7]) * 0.16 * fade


def add_dust(rng: np.random.Generator, steel: np.ndarray) -> None:
    """Add single dark or bright grains, far from each other as the pits of a defect are not."""
    for _ in range(rng.poisson(7)):
        x, y = rng.integers(2, WIDTH - 4), rng.integers(2, HEIGHT - 6)
        size = rng.integers(1, (6, 4))
        steel[y : y + size[0], x : x + size[1]] *= rng.choice([0.15, 0.3, 0.5, 2.5])


def cut_strip(rng: np.random.Generator, steel: np.ndarray) -> tuple[int, int]:
    """Let the strip end inside some pictures, with a dull edge and black beyond.

    Returns:
        Columns (left, right) of the steel, multiples of 4, at least 480 apart.
    """
    if rng.random() > 0.16:
        return 0, WIDTH
    gap = 4 * int(rng.integers(10, (WIDTH - 480) // 4))
    is_left = rng.random() < 0.5
    seen = steel if is_left else steel[:, ::-1]  # a view: the edge is drawn once, for the left
    seen[:, gap : gap + 200] *= 1 - 0.45 * np.exp(-np.arange(200, dtype=np.float32) / 35)
    seen[:, gap : gap + rng.integers(3, 12)] *= 0.6
    seen[:, :gap] *= 0.03
    return (gap, WIDTH) if is_left else (0, WIDTH - gap)
