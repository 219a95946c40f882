"""The report of a run: one HTML file that needs nothing beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmkeras.reports import charts
from mmkeras.reports.html import is_finite, write_page

HEAT_MAP_CLASSES = 20  # more do not fit a screen; the most confused pairs do
PAIRS = 20
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
    "trained_alone": "A model trained on one modality alone",
    "without": "One modality left out",
    "shuffled": "One modality shuffled between rows",
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
            warnings, subsets, shapley, noise, fusion_verdict, retrieval, and
            best_epoch, counted from 1. What is missing is left out of the report.
        history: One mapping an epoch, as Keras logs it (loss, val_loss, ...); "phase"
            in it marks where fine-tuning starts.
        errors: Worst first.
    """
    write_page(
        path,
        "report.html.j2",
        title=title,
        summary=summary,
        m=_filled(metrics),
        names=METRICS,
        by_class=BY_CLASS,
        baseline_names=BASELINES,
        figures=_figures(metrics),
        bars=_bars(metrics),
        fusion_bars=_fusion_bars(metrics),
        shares=charts.shares(metrics.get("shapley") or {}),
        noise=charts.noise_curves(metrics.get("noise") or {}),
        confusion=_confusion(metrics),
        reliability=charts.reliability(metrics),
        curves=charts.learning_curves(metrics, history),
        errors=errors,
        box=charts.BOX,
    )


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
        "fusion_verdict": "",
        "sampled_rows": None,
        "noise_rows": None,
        "temperature": None,
        "retrieval": {},
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
    """Returns groups of bars of accuracy: the model and the baselines."""
    model = (metrics.get("metrics") or {}).get("accuracy")
    baselines = metrics.get("baselines") or {}
    rows = [(BASELINES.get(k, k), v.get("accuracy")) for k, v in baselines.items()]
    groups = [_group("", "model", [("This model", model)])]
    groups.append(_group("Baselines", "baseline", rows))
    groups = [group for group in groups if group["rows"]]
    return groups if sum(len(g["rows"]) for g in groups) > 1 else []


def _group(heading: str, kind: str, rows: Sequence[tuple]) -> dict:
    rows = [{"label": n, **v} for n, v in rows if v and is_finite(v.get("value"))]
    return {"heading": heading, "kind": kind, "rows": rows}


def _fusion_bars(metrics: Mapping) -> list[dict]:
    """Returns groups of bars: all modalities, each alone and left out, and none.

    Of three modalities or fewer these are all subsets.
    """
    modalities, subsets = (metrics.get(k) or {} for k in ("modalities", "subsets"))
    whole = next(reversed(subsets.values()), {}).get("accuracy")
    groups = [_group("", "model", [("all together", whole)])]
    for key, heading in PARTS.items():
        if key == "without" and len(modalities) == 2:  # as the other one alone
            continue
        rows = [(n, (v.get(key) or {}).get("accuracy")) for n, v in modalities.items()]
        groups.append(_group(heading, key, rows))
    none = (subsets.get("") or {}).get("accuracy")
    groups.append(_group("No modality at all", "baseline", [("none", none)]))
    groups = [group for group in groups if group["rows"]]
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
