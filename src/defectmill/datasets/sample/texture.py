"""Rolled steel without a defect: (256, 1600) float32 in grey levels, with harmless marks.

The marks multiply it, so each looks the same under strong and under weak light.
"""

import cv2
import numpy as np

HEIGHT, WIDTH = 256, 1600


def make_noise(rng: np.random.Generator, shape: tuple[int, int], lump: tuple[float, float]) -> np.ndarray:
    """Make smooth float32 noise of mean 0 and deviation 0.8 or so; `lump` is (height, width) in pixels."""
    grid = [int(size / step) + 2 for size, step in zip(shape, lump, strict=True)]
    return cv2.resize(rng.standard_normal(grid, np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)


def draw_steel(rng: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
    """Draw clean steel, not yet clipped to 0..255, between columns (left, right) that are multiples of 4."""
    steel = _draw_light(rng)
    if rng.random() < 0.8:
        _add_scale(rng, steel)
    if rng.random() < 0.35:
        _add_ripples(rng, steel)
    _add_grain(rng, steel)
    for _ in range(rng.integers(0, 7)):
        _add_smudge(rng, steel)
    _add_seams_and_dust(rng, steel)
    return steel, _cut_strip(rng, steel)


def _draw_light(rng: np.random.Generator) -> np.ndarray:
    """Draw the uneven light on the strip and the bands that the rolls leave along it."""
    level = rng.uniform(25, 45) if rng.random() < 0.07 else rng.uniform(65, 125)
    lamp = 0.17 * make_noise(rng, (HEIGHT, WIDTH), (600, 450))
    bands = 0.05 * make_noise(rng, (1, WIDTH), (1, 60)) + 0.03 * make_noise(rng, (1, WIDTH), (1, 9))
    for edge in rng.integers(0, WIDTH, rng.integers(0, 5)):
        bands[:, edge:] += rng.uniform(-0.09, 0.09)
    return level * np.exp(np.clip(lamp, -0.5, 0.4) + bands)


def _add_scale(rng: np.random.Generator, steel: np.ndarray) -> None:
    """Add torn lighter or darker scale, drawn out along the strip, to some ranges of columns."""
    half = (HEIGHT // 2, WIDTH // 2)
    lumps = make_noise(rng, half, (30, 5)) + 0.6 * make_noise(rng, half, (6, 2.5))
    lumps += make_noise(rng, (1, half[1]), (1, 50))
    torn = np.clip(4 * (lumps - rng.uniform(0.6, 2.6)), 0, 1)
    steel *= 1 + rng.choice([-1, 1]) * rng.uniform(0.08, 0.24) * cv2.resize(torn, (WIDTH, HEIGHT))


def _add_ripples(rng: np.random.Generator, steel: np.ndarray) -> None:
    """Add fine waves across the strip, strong in some columns and absent in others."""
    quarter = (HEIGHT, WIDTH // 4)
    bend = rng.uniform(6, 16) * make_noise(rng, quarter, (200, 80))
    phase = np.arange(HEIGHT, dtype=np.float32)[:, None] + bend
    waves = np.sin(phase * np.float32(2 * np.pi / rng.uniform(5, 11)))
    waves *= np.clip(make_noise(rng, (1, quarter[1]), (1, 60)), 0, 1.2)
    steel *= 1 + rng.uniform(0.05, 0.13) * cv2.resize(waves, (WIDTH, HEIGHT))


def _add_grain(rng: np.random.Generator, steel: np.ndarray) -> None:
    """Add the grain of the metal and of the camera, short dark flecks and glints."""
    # Bytes are drawn far faster than normal numbers, and the blur makes them nearly normal.
    noise = rng.integers(0, 256, steel.shape, np.uint8).astype(np.float32) / 74 - 1.72
    fine = cv2.GaussianBlur(noise, (3, 3), 0.6)
    drawn = cv2.blur(noise, (1, 9))  # along the strip
    flecks = np.clip(drawn - rng.uniform(0.75, 1.1), 0, 0.4)
    grain = cv2.addWeighted(fine, rng.uniform(0.07, 0.14), drawn, rng.uniform(0.05, 0.16), 1)
    steel *= cv2.scaleAdd(flecks, -0.8, grain)
    steel += 1.5 * fine
    # Glints saturate the camera: no threshold on brightness tells them from a bright scratch.
    amount = int(rng.lognormal(6, 1))
    x = rng.normal(rng.uniform(0, WIDTH), rng.uniform(100, 900), amount).astype(int) % WIDTH
    y = rng.integers(0, HEIGHT, amount)
    steel[y, x] *= rng.uniform(1.2, 3.2, amount).astype(np.float32)


def _add_smudge(rng: np.random.Generator, steel: np.ndarray) -> None:
    """Add one oil streak or dark smudge with soft edges, or the pale rim of a dried drop."""
    x, y = rng.integers(0, WIDTH), rng.integers(0, HEIGHT)
    is_drop = rng.random() < 0.3
    long, wide = rng.uniform(*(((15, 12), (45, 30)) if is_drop else ((20, 5), (110, 22))))
    turn = rng.normal(0, 0.25)
    reach = 2 * long, 2 * (wide + abs(turn) * long)
    rows = slice(max(0, y - int(reach[0])), min(HEIGHT, y + int(reach[0])))
    columns = slice(max(0, x - int(reach[1])), min(WIDTH, x + int(reach[1])))
    crop = steel[rows, columns]
    dy = np.arange(HEIGHT, dtype=np.float32)[rows, None] - y
    dx = np.arange(WIDTH, dtype=np.float32)[None, columns] - x
    along, across = dy * np.cos(turn) + dx * np.sin(turn), dx * np.cos(turn) - dy * np.sin(turn)
    distance = np.hypot(along / np.float32(long), across / np.float32(wide))
    distance += 0.16 * make_noise(rng, crop.shape, (14, 10))
    if is_drop:
        rim = np.exp(-(((distance - 1) / 0.09) ** 2))
        crop *= 1 + rng.uniform(0.05, 0.16) * rim - 0.06 * (distance < 1)
    else:
        crop *= 1 - rng.uniform(0.12, 0.5) * np.exp(-1.8 * distance**2)


def _add_seams_and_dust(rng: np.random.Generator, steel: np.ndarray) -> None:
    """Add faint thin lines along the strip, and grains far from each other as a defect's pits are not."""
    for x in rng.integers(0, WIDTH - 3, rng.integers(0, 7)):
        fade = np.clip(0.5 + make_noise(rng, (HEIGHT, 1), (60, 1)), 0, 1)
        steel[:, x : x + rng.integers(1, 4)] *= 1 + rng.choice([-1.0, 0.7]) * 0.16 * fade
    for _ in range(rng.poisson(7)):
        x, y = rng.integers(2, WIDTH - 4), rng.integers(2, HEIGHT - 6)
        size = rng.integers(1, (6, 4))
        steel[y : y + size[0], x : x + size[1]] *= rng.choice([0.15, 0.3, 0.5, 2.5])


def _cut_strip(rng: np.random.Generator, steel: np.ndarray) -> tuple[int, int]:
    """Let the strip end inside some images, with a dull edge and black beyond; give its columns."""
    if rng.random() > 0.16:
        return 0, WIDTH
    gap = 4 * int(rng.integers(10, (WIDTH - 480) // 4))
    is_left = rng.random() < 0.5
    seen = steel if is_left else steel[:, ::-1]  # a view: the edge is drawn once, for the left
    seen[:, gap : gap + 200] *= 1 - 0.45 * np.exp(-np.arange(200, dtype=np.float32) / 35)
    seen[:, gap : gap + rng.integers(3, 12)] *= 0.6
    seen[:, :gap] *= 0.03
    return (gap, WIDTH) if is_left else (0, WIDTH - gap)
