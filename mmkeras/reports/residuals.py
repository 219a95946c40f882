"""Coordinates of the charts of a regression: true against predicted, and residuals."""

from collections.abc import Sequence

import numpy as np

from mmkeras.reports.charts import (
    BOTTOM,
    HEIGHT,
    TOP,
    scaled_x,
    scaled_y,
    ticks,
)

POINTS, _BINS = 2000, 20  # of more rows, every n-th is drawn


def residual_charts(residuals: Sequence[tuple[float, float]]) -> dict | None:
    """Returns both charts of (label, prediction) per row; None without rows."""
    if not residuals:
        return None
    pairs = np.asarray(residuals, float)  # (N, 2)
    return {"scatter": _scatter(pairs), "histogram": _histogram(pairs)}


def _scatter(pairs: np.ndarray) -> dict:
    levels = ticks(float(pairs.min()), float(pairs.max()))
    shown = pairs[:: -(-len(pairs) // POINTS)]
    return {
        "levels": [(scaled_y(v, levels), f"{v:g}") for v in levels],
        "ticks": [(scaled_x(v, levels), f"{v:g}") for v in levels],
        "points": [
            (scaled_x(y, levels), scaled_y(p, levels)) for y, p in shown.tolist()
        ],
        "rows": len(shown),
    }


def _histogram(pairs: np.ndarray) -> dict:
    """Returns bins of predictions minus labels, symmetric around zero."""
    errors = pairs[:, 1] - pairs[:, 0]
    limit = max(float(np.abs(errors).max()), 1e-9)
    counts, edges = np.histogram(errors, _BINS, (-limit, limit))
    highest, levels = int(counts.max()), ticks(-limit, limit)
    rows = ticks(0, highest)
    return {
        "levels": [(scaled_y(v, rows), f"{v:g}") for v in rows],
        "ticks": [(scaled_x(v, levels), f"{v:g}") for v in levels],
        "zero": scaled_x(0, levels),
        "bins": [
            {
                "x": scaled_x(low, levels) + 1,
                "width": scaled_x(high, levels) - scaled_x(low, levels) - 2,
                "height": (HEIGHT - TOP - BOTTOM) * count / rows[-1],
                "rows": count,
                "label": f"{low:.3g} to {high:.3g}",
            }
            for count, low, high in zip(
                counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True
            )
        ],
    }
