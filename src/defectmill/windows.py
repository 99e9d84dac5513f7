"""Windows: at which size a picture is shown, and which of its pixels a crop holds."""

import numpy as np

from defectmill.knobs import DataKnobs


def shown_shape(shape: tuple[int, int], knobs: DataKnobs) -> tuple[int, int]:
    """The (height, width) at which a whole picture of `shape` is shown to the network."""
    if knobs.mode == "resize":
        return knobs.shape
    return max(1, round(shape[0] * knobs.scale)), max(1, round(shape[1] * knobs.scale))


def place_window(
    sides: np.ndarray, centre: np.ndarray, shown: np.ndarray, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Say which rows and columns a window holds; reflected where it leaves the picture.

    It keeps inside the picture by half of what it shows, where the picture allows.

    Args:
        sides: height and width of the picture.
        centre: of the window, (2,) float.
        shown: height and width of what it shows, (2,) float.
        margin: how many times larger the window is than what it shows.
    """
    window = np.ceil(shown * margin).astype(int)
    half = np.minimum(shown, sides) / 2
    first = np.round(np.clip(centre, half, sides - half) - window / 2).astype(int)
    rows, columns = (
        _reflect(np.arange(f, f + n), side) for f, n, side in zip(first, window, sides, strict=True)
    )
    return rows, columns


def _reflect(positions: np.ndarray, side: int) -> np.ndarray:
    """Fold positions outside 0..side-1 back inside, without repeating the border pixel."""
    period = max(1, 2 * (side - 1))
    return np.minimum(positions % period, -positions % period)
