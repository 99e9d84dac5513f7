"""Charts for pages: SVG text in the page's own colours, so that they follow light and dark."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from matplotlib.ticker import MaxNLocator, ScalarFormatter

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 62, 10, 12, 34


def draw_curves(
    series: Mapping[str, Sequence[float]], title: str, ylim: tuple[float, float] | None = None
) -> str:
    """Draw curves over the epochs 1, 2...; the first series is grey, the second coloured.

    Args:
        series: name to values, of one length; NaN is left out.
        ylim: of the vertical axis; None: what the values need.
    Returns:
        An <svg> element.
    """
    arrays = {name: np.asarray(values, float) for name, values in series.items()}
    known = np.concatenate([a[np.isfinite(a)] for a in arrays.values()])
    if ylim is None:
        ticks = MaxNLocator(5).tick_values(*((known.min(), known.max()) if known.size else (0, 1)))
        low, high = ticks[0], ticks[-1]
    else:
        low, high = ylim
        ticks = MaxNLocator(5).tick_values(low, high)
    n = len(next(iter(arrays.values())))

    def place(epoch: float, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * (epoch - 1) / max(1, n - 1)
        y = TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / ((high - low) or 1))
        return round(x, 1), round(y, 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    shown = ticks[(ticks >= low) & (ticks <= high)]
    for tick, text in zip(shown, _tell_ticks(shown), strict=True):
        _, y = place(1, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>')
    for epoch in sorted({max(1, round(e)) for e in MaxNLocator(6, integer=True).tick_values(1, n)}):
        if epoch <= n:
            x, _ = place(epoch, low)
            parts.append(f'<text x="{x}" y="{HEIGHT - 18}" text-anchor="middle">{epoch}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">epoch</text>')
    for number, values in enumerate(arrays.values()):
        points = [place(e, v) for e, v in enumerate(values, 1) if np.isfinite(v)]
        line = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline class="line{number}" points="{line}"/>')
        parts += [f'<circle class="line{number}" cx="{x}" cy="{y}" r="2.5"/>' for x, y in points]
    return "".join(parts) + "</svg>"


def _tell_ticks(ticks: np.ndarray) -> list[str]:
    if len(ticks) and np.abs(ticks).max() >= 1e5:
        return [f"{tick:.1e}" for tick in ticks]
    formatter = ScalarFormatter(useOffset=False)
    formatter.create_dummy_axis()
    return [text.replace("\N{MINUS SIGN}", "-") for text in formatter.format_ticks(ticks)]
