"""Coordinates of the charts in a report; templates draw them as SVG."""

import math
from collections.abc import Mapping, Sequence

from mmkeras.reports.html import is_finite
from mmkeras.reports.score_text import ACCURACY, ScoreText

# Units of the SVG view box; px on a phone. The browser scales them.
WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 36
BOX = {"w": WIDTH, "h": HEIGHT, "x0": LEFT, "x1": WIDTH - RIGHT}
BOX |= {"y0": TOP, "y1": HEIGHT - BOTTOM}


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def scaled_y(value: float, levels: Sequence[float]) -> float:
    """Returns the y of a value on an axis from the first level to the last."""
    return _y((value - levels[0]) / (levels[-1] - levels[0]))


def scaled_x(value: float, levels: Sequence[float]) -> float:
    """Returns the x of a value on an axis from the first level to the last."""
    return _x((value - levels[0]) / (levels[-1] - levels[0]))


def reliability(metrics: Mapping) -> dict | None:
    """Returns the bins with rows, and the axes, of a reliability diagram."""
    bins = [b for b in metrics.get("reliability") or [] if b["rows"]]
    if not bins:
        return None
    total, most_rows = (f(b["rows"] for b in bins) for f in (sum, max))
    percents = [(v, f"{100 * v:g} %") for v in (0, 0.25, 0.5, 0.75, 1)]
    return {
        "levels": [(_y(v), label) for v, label in percents],
        "ticks": [(_x(v), label) for v, label in percents],
        "counts": [
            (_y(v), f"{round(100 * v * most_rows / total)} %") for v, _ in percents
        ],
        "bins": [
            {
                **b,
                "x": _x(b["low"]) + 1,
                "width": _x(b["high"]) - _x(b["low"]) - 2,
                "top": _y(b["accuracy"]),
                "mark": _y(b["confidence"]),
                "share": b["rows"] / total,
                "height": (HEIGHT - TOP - BOTTOM) * b["rows"] / most_rows,
            }
            for b in bins
        ],
    }


def ticks(low: float, high: float) -> list[float]:
    """Returns 2 to 7 round numbers that enclose `low` and `high`."""
    target = max(high - low, 1e-6) / 4
    power = 10 ** math.floor(math.log10(target))
    step = power * next(s for s in (1, 2, 5, 10) if s * power >= target * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [round(i * step, 9) for i in range(first, last + 1)]


def learning_curves(metrics: Mapping, history: Sequence[Mapping]) -> list[dict]:
    """Returns one chart per value logged for training and validation, at most 3."""
    keys = list(dict.fromkeys(k for entry in history for k in entry))
    names = [k for k in keys if f"val_{k}" in keys]
    names.sort(key=lambda name: (name != "loss", "acc" not in name))
    losses = [e.get("val_loss") for e in history]
    finite = [i for i, v in enumerate(losses) if is_finite(v)]
    best = metrics.get("best_epoch")
    if best is None and finite:
        best = 1 + min(finite, key=lambda i: losses[i])
    charts = [_curve(name, history, best) for name in names[:3]]
    return [chart for chart in charts if chart]


def _curve(name: str, history: Sequence[Mapping], best: int | None) -> dict | None:
    lines = {kind: [e.get(p + name) for e in history] for kind, p in _LINES.items()}
    values = [v for line in lines.values() for v in line if is_finite(v)]
    if not values:
        return None
    low = min(values) if name != "loss" else min(0, *values)
    levels = ticks(low, max(values))
    last = max(len(history) - 1, 1)

    def point(i: float, value: float) -> tuple[float, float]:
        return _x(i / last), scaled_y(value, levels)

    phases = [e.get("phase") for e in history]
    starts = [i for i in range(1, len(phases)) if phases[i] != phases[i - 1]]
    epochs = sorted({round(e) for e in ticks(1, last + 1) if 1 <= e <= last + 1} | {1})
    return {
        "name": name.replace("_", " "),
        "lines": {kind: _segments(line, point) for kind, line in lines.items()},
        "levels": [(scaled_y(v, levels), f"{v:g}") for v in levels],
        "epochs": [(_x((e - 1) / last), e) for e in epochs if e <= len(history)],
        "best": (_x((best - 1) / last), best) if best else None,
        "phases": [_x((i - 0.5) / last) for i in starts],
    }


_LINES = {"train": "", "val": "val_"}  # line -> prefix of its logs


def _segments(line: Sequence, point) -> list[list[tuple[float, float]]]:
    """Returns continuous runs of points; an unknown value interrupts the line."""
    runs = [[]]
    for i, value in enumerate(line):
        if is_finite(value):
            runs[-1].append(point(i, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def shares(shapley: Mapping) -> list[dict]:
    """Returns bars from zero to each share in % of the width."""
    shapley = {name: v for name, v in shapley.items() if is_finite(v.get("value"))}
    if not shapley:
        return []
    low = min(0, *(v["low"] for v in shapley.values()))
    high = max(0, *(v["high"] for v in shapley.values()))
    width = max(high - low, 1e-9)

    def percent_of_width(value: float) -> float:
        return round(100 * value / width, 2)

    return [
        {
            "label": name,
            **v,
            "zero": percent_of_width(-low),
            "left": percent_of_width(min(0, v["value"]) - low),
            "width": percent_of_width(abs(v["value"])),
            "from": percent_of_width(v["low"] - low),
            "spread": percent_of_width(v["high"] - v["low"]),
        }
        for name, v in shapley.items()
    ]


def noise_curves(
    noise: Mapping, axes: Mapping, score: ScoreText = ACCURACY
) -> list[dict]:
    """Returns one chart of the score over levels per branch, all on one scale.

    `axes` is branch -> heading, unit of a level, and factor of a level to that unit.
    """
    scores = [p[score.key] for points in noise.values() for p in points]
    scores = [s for s in scores if s["value"] is not None]
    if not scores:
        return []
    levels = ticks(min(s["low"] for s in scores), max(s["high"] for s in scores))
    return [
        _noise_chart(_heading(branch, noise, axes), points, levels, score)
        for branch, points in noise.items()
        if points
    ]


def _heading(branch, noise, axes) -> tuple[str, str, float]:
    """Returns heading, unit and factor, with the branch where several have the same."""
    heading, unit, factor = axes.get(branch, (branch, "level", 1))
    same = [name for name in noise if axes.get(name, ("",))[0] == heading]
    return (f"{heading}: {branch}" if len(same) > 1 else heading), unit, factor


def _noise_chart(
    axis: tuple[str, str, float],
    points: Sequence[Mapping],
    levels: list[float],
    score: ScoreText,
) -> dict:
    heading, unit, factor = axis
    places = [_x((i + 0.5) / len(points)) for i in range(len(points))]
    labels = ["clean", *(f"{factor * p['level']:g}" for p in points[1:])]
    return {
        "heading": heading,
        "axis": unit,
        "levels": [
            (scaled_y(v, levels), f"{100 * v:g} %" if score.is_share else f"{v:g}")
            for v in levels
        ],
        "ticks": list(zip(places, labels, strict=True)),
        "values": [p[score.key]["value"] for p in points],
        "points": [
            {k: scaled_y(v, levels) for k, v in p[score.key].items()} | {"x": x}
            for x, p in zip(places, points, strict=True)
        ],
    }
