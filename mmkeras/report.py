"""The report of a run: one HTML file that needs nothing beside it."""

import base64
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

NONE = "–"  # shown for what is unknown
HEAT_MAP_CLASSES = 20  # more do not fit a screen; the most confused pairs do
PAIRS = 20
# Charts are drawn in these units and scaled by the browser; px at a phone's width.
WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 12, 36

# Metric -> its name, and what it says to someone who meets it for the first time.
METRICS = {
    "accuracy": ("Accuracy", "rows answered right"),
    "balanced_accuracy": ("Balanced accuracy", "as if all classes were equally common"),
    "precision_macro": ("Precision, macro", "answers of a class that are right"),
    "precision_weighted": ("Precision, weighted", "the same, by class size"),
    "recall_macro": ("Recall, macro", "rows of a class that are found"),
    "recall_weighted": ("Recall, weighted", "the same, by class size"),
    "f1_macro": ("F1, macro", "precision and recall in one"),
    "f1_weighted": ("F1, weighted", "the same, by class size"),
    "roc_auc": ("ROC-AUC", "chance that a right row ranks above a wrong one"),
    "pr_auc": ("PR-AUC", "average precision over all thresholds"),
    "log_loss": ("Log loss", "lower is better; punishes being sure and wrong"),
    "ece": ("Calibration error", "lower is better; confidence against accuracy"),
}
FIGURES = ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc")
PERCENT = ("accuracy", "balanced_accuracy")
BY_CLASS = ("precision", "recall", "f1", "roc_auc", "pr_auc")
BASELINES = {
    "majority": "Most frequent answer",
    "logistic_regression": "Logistic regression",
}
# Key of a modality's part of the metrics -> heading of its bars.
PARTS = {
    "alone": "One modality alone",
    "without": "One modality left out",
    "shuffled": "One modality shuffled",
}


@dataclass(frozen=True, kw_only=True)
class WorstError:
    """A row that the model got wrong while being sure.

    Attributes:
        id: Name of the row.
        label: What it is.
        predicted: What the model said.
        score: Probability of the answer, from 0 to 1.
        status: Which modalities were absent or unreadable, or "ok".
        text: Its text, "" if absent.
        image: PNG or JPEG bytes, b"" if absent; a thumbnail keeps the file small.
        audio: WAV bytes, b"" if absent.
        image_kind: Media type of `image`.
    """

    id: str
    label: str
    predicted: str
    score: float
    status: str = "ok"
    text: str = ""
    image: bytes = b""
    audio: bytes = b""
    image_kind: str = "image/png"


def write_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, str],
    metrics: Mapping,
    history: Sequence[Mapping],
    errors: Sequence[WorstError],
) -> None:
    """Writes the report, aside first and then in one step to `path`.

    Args:
        path: HTML file to write; its folder exists.
        title: Heading.
        summary: Settings and facts of the run, shown as a table.
        metrics: `metrics.measure(...)` and what the run adds to it: task, classes,
            split, baselines, difference, verdict, temperature, modalities, status,
            warnings, and best_epoch, counted from 1. A part that is missing is left
            out of the report.
        history: One mapping an epoch, as Keras logs it (loss, val_loss, ...); "phase"
            in it marks where fine-tuning starts.
        errors: Worst first.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent, "data_uri": data_uri}
    page = environment.get_template("report.html.j2").render(
        title=title,
        summary=summary,
        m=_filled(metrics),
        names=METRICS,
        by_class=BY_CLASS,
        baseline_names=BASELINES,
        dash=NONE,
        figures=_figures(metrics),
        bars=_bars(metrics),
        confusion=_confusion(metrics),
        reliability=_reliability(metrics),
        curves=_curves(metrics, history),
        errors=errors,
        box={"w": WIDTH, "h": HEIGHT, "x0": LEFT, "x1": WIDTH - RIGHT}
        | {"y0": TOP, "y1": HEIGHT - BOTTOM},
    )
    aside = Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    try:
        aside.write_text(page, encoding="utf-8", errors="replace")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def number(value: float | None, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if _known(value) else NONE


def percent(value: float | None) -> str:
    return f"{100 * value:.1f} %" if _known(value) else NONE


def data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _known(value) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _filled(metrics: Mapping) -> dict:
    empty = {
        "task": "",
        "classes": [],
        "split": "",
        "rows": None,
        "metrics": {},
        "per_class": {},
        "baselines": {},
        "verdict": "",
        "temperature": None,
        "modalities": {},
        "status": {},
        "warnings": [],
        "bootstrap_resamples": None,
    }
    return empty | {k: v for k, v in metrics.items() if v is not None}


def _figures(metrics: Mapping) -> list[dict]:
    values = metrics.get("metrics") or {}
    return [
        {"name": METRICS[n][0], "percent": n in PERCENT, **values[n]}
        for n in FIGURES
        if n in values
    ]


def _bars(metrics: Mapping) -> list[dict]:
    """Returns groups of bars of accuracy: the model, baselines, single modalities."""
    model = (metrics.get("metrics") or {}).get("accuracy")
    baselines, modalities = (metrics.get(k) or {} for k in ("baselines", "modalities"))
    found = [("", "model", [("This model", model)])]
    rows = [(BASELINES.get(k, k), v.get("accuracy")) for k, v in baselines.items()]
    found.append(("Baselines", "baseline", rows))
    for key, heading in PARTS.items():
        rows = [(n, (v.get(key) or {}).get("accuracy")) for n, v in modalities.items()]
        found.append((heading, key, rows))
    groups = []
    for heading, kind, rows in found:
        known = [{"label": n, **v} for n, v in rows if v and _known(v.get("value"))]
        if known:
            groups.append({"heading": heading, "kind": kind, "rows": known})
    return groups if sum(len(g["rows"]) for g in groups) > 1 else []


def _confusion(metrics: Mapping) -> dict | None:
    """Returns a heat map, the most confused pairs, or counts by class."""
    matrix, classes = metrics.get("confusion_matrix"), metrics.get("classes")
    if not matrix or not classes:
        return None
    if metrics.get("task") == "multilabel":
        rows = [
            {"name": n, "hits": m[1][1], "missed": m[1][0], "false": m[0][1]}
            for n, m in zip(classes, matrix, strict=True)
        ]
        return {"kind": "counts", "rows": rows}
    shares = [[v / max(sum(row), 1) for v in row] for row in matrix]
    if len(classes) <= HEAT_MAP_CLASSES:
        cells = [
            list(zip(*pair, strict=True)) for pair in zip(matrix, shares, strict=True)
        ]
        return {"kind": "heat", "rows": list(zip(classes, cells, strict=True))}
    pairs = [
        {"truth": classes[i], "guess": classes[j], "rows": v, "share": shares[i][j]}
        for i, row in enumerate(matrix)
        for j, v in enumerate(row)
        if i != j and v
    ]
    pairs.sort(key=lambda pair: (-pair["rows"], -pair["share"]))
    return {"kind": "pairs", "rows": pairs[:PAIRS]}


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _reliability(metrics: Mapping) -> list[dict]:
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


def _curves(metrics: Mapping, history: Sequence[Mapping]) -> list[dict]:
    """Returns one chart a quantity that was logged for training and validation."""
    keys = list(dict.fromkeys(k for entry in history for k in entry))
    names = [k for k in keys if f"val_{k}" in keys]
    names.sort(key=lambda name: (name != "loss", "acc" not in name))
    losses = [e.get("val_loss") for e in history]
    known = [i for i, v in enumerate(losses) if _known(v)]
    best = metrics.get("best_epoch")
    if best is None and known:
        best = 1 + min(known, key=lambda i: losses[i])
    charts = [_curve(name, history, best) for name in names[:3]]
    return [chart for chart in charts if chart]


def _curve(name: str, history: Sequence[Mapping], best: int | None) -> dict | None:
    lines = {kind: [e.get(p + name) for e in history] for kind, p in _LINES.items()}
    values = [v for line in lines.values() for v in line if _known(v)]
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
        if _known(value):
            runs[-1].append(place(i, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
