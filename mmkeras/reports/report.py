"""Report of a run: one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmkeras.reports import charts
from mmkeras.reports.html import is_finite, write_page
from mmkeras.reports.metric_names import CLASS_METRICS, FIGURES, METRICS, PERCENT
from mmkeras.reports.residuals import residual_charts
from mmkeras.reports.score_text import score_text
from mmkeras.reports.texts import TextExamples, length_chart

HEAT_MAP_CLASSES = 20  # limit that fits a screen; above it, the most confused pairs
PAIRS = 20
_ENDS = ("value", "low", "high")
BASELINES = {
    "majority": "Most frequent class",
    "logistic_regression": "Logistic regression",
    "mean": "Mean of the labels",
    "ridge": "Ridge regression",
    "most_frequent": "Most frequent text",
    "nearest_row": "Text of the nearest row",
}
# Key of a modality's metrics -> heading of its bars.
PARTS = {
    "alone": "One modality alone",
    "trained_alone": "A model trained on one modality alone",
    "without": "One modality left out",
    "shuffled": "One modality shuffled between rows",
}


@dataclass(frozen=True, kw_only=True)
class WorstError:
    """Wrong prediction with a high score, and the content of its row.

    The score is the probability of the predicted class, NaN in regression; the status
    "ok", or which columns were absent or unreadable. `previews` is present column ->
    {"kind", and "content"}: kind text, image (a small PNG) or audio (a WAV).
    """

    id: str
    label: str
    predicted: str
    score: float
    status: str = "ok"
    previews: Mapping[str, Mapping] = field(default_factory=dict)


def write_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, str],
    metrics: Mapping,
    history: Sequence[Mapping],
    errors: Sequence[WorstError] = (),
    texts: TextExamples | None = None,
    noise_axes: Mapping[str, tuple[str, str, float]] | None = None,
    residuals: Sequence[tuple[float, float]] = (),
) -> None:
    """Writes the report, an HTML file in an existing folder, atomically.

    Args:
        summary: Settings and facts of the run, shown as a table.
        metrics: Content of metrics.json, confusion_matrix as `metrics.measure` returns
            it, and best_epoch, counted from 1. Missing parts are left out.
        history: Logs of each epoch from Keras (loss, val_loss, ...); "phase" marks
            where fine-tuning starts.
        errors: Wrong predictions, highest score first.
        texts: Rows of a generator, in the place of `errors`.
        noise_axes: Branch -> heading, unit and factor of the levels of its noise.
        residuals: (label, prediction) of each row of a regression.
    """
    score = score_text(metrics.get("task", ""))
    write_page(
        path,
        "report.html.j2",
        title=title,
        summary=summary,
        m=_fill(metrics),
        names=METRICS,
        class_metrics=CLASS_METRICS,
        baseline_names=BASELINES,
        figures=_figures(metrics),
        score=score,
        bars=_bars(metrics, score.key),
        fusion_bars=_fusion_bars(metrics, score.key),
        shares=charts.shares(metrics.get("shapley") or {}),
        noise=charts.noise_curves(metrics.get("noise") or {}, noise_axes or {}, score),
        confusion=_confusion(metrics),
        reliability=charts.reliability(metrics),
        curves=charts.learning_curves(metrics, history),
        errors=errors,
        texts=texts,
        lengths=length_chart((metrics.get("texts") or {}).get("lengths") or ()),
        has_images=_have_images([*errors, *_text_rows(texts)]),
        residuals=residual_charts(residuals),
        box=charts.BOX,
    )


def _text_rows(texts) -> list:
    return [*texts.worst, *texts.best] if texts else []


def _have_images(rows) -> bool:
    previews = (p for row in rows for p in row.previews.values())
    return any(p["kind"] == "image" for p in previews)


def _fill(metrics: Mapping) -> dict:
    """Returns all values that the template reads, empty ones where missing."""
    numbers = "rows sampled_rows noise_rows temperature bootstrap_resamples"
    numbers += " shapley_orders"
    texts = "task split verdict fusion_verdict"
    tables = "classes metrics per_class baselines retrieval modalities status warnings"
    tables += " texts"
    empty = dict.fromkeys(numbers.split()) | dict.fromkeys(texts.split(), "")
    empty |= dict.fromkeys(tables.split(), {})
    return empty | {k: v for k, v in metrics.items() if v is not None}


def _figures(metrics: Mapping) -> list[dict]:
    values = metrics.get("metrics") or {}
    return [
        {"name": METRICS[n][0], "percent": n in PERCENT, **values[n]}
        for n in FIGURES
        if n in values
    ]


def _bars(metrics: Mapping, key: str) -> list[dict]:
    """Returns bars of the score: the model and the baselines."""
    model = (metrics.get("metrics") or {}).get(key)
    baselines = metrics.get("baselines") or {}
    rows = [(BASELINES.get(k, k), v.get(key)) for k, v in baselines.items()]
    groups = [_group("", "model", [("This model", model)])]
    groups.append(_group("Baselines", "baseline", rows))
    groups = [group for group in groups if group["rows"]]
    return groups if sum(len(g["rows"]) for g in groups) > 1 else []


def _group(heading: str, kind: str, rows: Sequence[tuple]) -> dict:
    rows = [
        {"label": n, **v, "bar": {k: _width(v.get(k)) for k in _ENDS}}
        for n, v in rows
        if v and is_finite(v.get("value"))
    ]
    return {"heading": heading, "kind": kind, "rows": rows}


def _width(value: float | None) -> float | None:
    """Returns % of the width of a bar from 0 to 1, which R² can exceed to the left."""
    return None if value is None else round(100 * min(max(value, 0), 1), 2)


def _fusion_bars(metrics: Mapping, score: str) -> list[dict]:
    """Returns bars: all modalities, each alone, left out and shuffled, and none."""
    modalities, subsets = (metrics.get(k) or {} for k in ("modalities", "subsets"))
    full = next(reversed(subsets.values()), {}).get(score)
    groups = [_group("", "model", [("all modalities", full)])]
    for key, heading in PARTS.items():
        if key == "without" and len(modalities) == 2:  # the same as the other one alone
            continue
        rows = [(n, (v.get(key) or {}).get(score)) for n, v in modalities.items()]
        groups.append(_group(heading, key, rows))
    none = (subsets.get("") or {}).get(score)
    groups.append(_group("No modality at all", "baseline", [("none", none)]))
    groups = [group for group in groups if group["rows"]]
    return groups if sum(len(g["rows"]) for g in groups) > 1 else []


def _confusion(metrics: Mapping) -> dict | None:
    """Returns a heat map, the most confused pairs, or counts per class."""
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
