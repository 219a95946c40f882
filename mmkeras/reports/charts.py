"""Numbers -> places in the charts of a report; the templates draw them."""

import math
from collections.abc import Mapping, Sequence

from mmkeras.reports.html import is_finite

# Charts are drawn in these units and scaled by the browser; px at a phone's width.
WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 36
BOX = {"w": WIDTH, "h": HEIGHT, "x0": LEFT, "x1": WIDTH - RIGHT}
BOX |= {"y0": TOP, "y1": HEIGHT - BOTTOM}


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def reliability(metrics: Mapping) -> list[dict]:
    """Returns the bins of the reliability diagram with their places."""
    bins = metrics.get("reliability") or []
    total = max(sum(b["rows"] for b in bins), 1)
    return [
        {
            **b,
            "x": _x(b["low"]) + 1,
            "width": _x(b["high"]) - _x(b["low"]) - 2,
            "top": _y(b["accuracy"] or 0),
            "mark": _y(b["confidence"] or 0),
            "share": b["rows"] / total,
        }
        for b in bins
    ]


def ticks(low: float, high: float) -> list[float]:
    """Returns 3 to 7 round numbers from below `low` to above `high`."""
    rough = max(high - low, 1e-6) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = power * next(s for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [round(i * step, 9) for i in range(first, last + 1)]


def learning_curves(metrics: Mapping, history: Sequence[Mapping]) -> list[dict]:
    """Returns one chart a quantity that was logged for training and validation."""
    keys = list(dict.fromkeys(k for entry in history for k in entry))
    names = [k for k in keys if f"val_{k}" in keys]
    names.sort(key=lambda name: (name != "loss", "acc" not in name))
    losses = [e.get("val_loss") for e in history]
    there = [i for i, v in enumerate(losses) if is_finite(v)]
    best = metrics.get("best_epoch")
    if best is None and there:
        best = 1 + min(there, key=lambda i: losses[i])
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

    def place(i: float, value: float) -> tuple[float, float]:
        return _x(i / last), _y((value - levels[0]) / (levels[-1] - levels[0]))

    phases = [e.get("phase") for e in history]
    changed = [i for i in range(1, len(phases)) if phases[i] != phases[i - 1]]
    epochs = sorted({round(e) for e in ticks(1, last + 1) if 1 <= e <= last + 1} | {1})
    return {
        "name": name.replace("_", " "),
        "lines": {kind: _segments(line, place) for kind, line in lines.items()},
        "levels": [(place(0, v)[1], f"{v:g}") for v in levels],
        "epochs": [(_x((e - 1) / last), e) for e in epochs if e <= len(history)],
        "best": (_x((best - 1) / last), best) if best else None,
        "phases": [_x((i - 0.5) / last) for i in changed],
    }


_LINES = {"train": "", "val": "val_"}  # name of a line -> prefix of its logs


def _segments(line: Sequence, place) -> list[list[tuple[float, float]]]:
    """Returns unbroken runs of points; an unknown value breaks the line."""
    runs = [[]]
    for i, value in enumerate(line):
        if is_finite(value):
            runs[-1].append(place(i, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def shares(shapley: Mapping) -> list[dict]:
    """Returns bars from zero to each share, negative ones too, in % of the width."""
    shapley = {name: v for name, v in shapley.items() if is_finite(v.get("value"))}
    if not shapley:
        return []
    low = min(0, *(v["low"] for v in shapley.values()))
    high = max(0, *(v["high"] for v in shapley.values()))
    whole = max(high - low, 1e-9)

    def percent_of_width(value: float) -> float:
        return round(100 * value / whole, 2)

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


_NOISE = {  # modality -> heading, what a level is, its words
    "image": ("Pictures blurred", "blur, % of the side", lambda v: f"{100 * v:g}"),
    "audio": ("Sounds under noise", "signal to noise, dB", lambda v: f"{v:g}"),
    "text": ("Words dropped", "% of the words", lambda v: f"{100 * v:g}"),
}


def noise_curves(noise: Mapping) -> list[dict]:
    """Returns one chart a modality, accuracy over levels, all on one scale."""
    accuracies = [p["accuracy"] for points in noise.values() for p in points]
    if not accuracies:
        return []
    levels = ticks(
        min(a["low"] for a in accuracies), max(a["high"] for a in accuracies)
    )

    def y(value: float) -> float:
        return _y((value - levels[0]) / (levels[-1] - levels[0]))

    charts = []
    for modality in (m for m in _NOISE if noise.get(m)):
        points, (heading, axis, words) = noise[modality], _NOISE[modality]
        places = [_x((i + 0.5) / len(points)) for i in range(len(points))]
        values = [p["accuracy"] for p in points]
        charts.append(
            {
                "heading": heading,
                "axis": axis,
                "levels": [(y(v), f"{100 * v:g} %") for v in levels],
                "names": ["clean", *(words(p["level"]) for p in points[1:])],
                "points": [
                    {
                        "x": x,
                        "y": y(a["value"]),
                        "low": y(a["low"]),
                        "high": y(a["high"]),
                    }
                    | {"value": a["value"]}
                    for x, a in zip(places, values, strict=True)
                ],
            }
        )
    return charts
