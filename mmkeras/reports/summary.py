"""Printed summary of a finished run: metrics, files and the next commands."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmkeras.files import latest_version, read_json
from mmkeras.reports.metric_names import (
    GENERATE_METRICS,
    REGRESSION_METRICS,
    SHOWN_METRICS,
)
from mmkeras.schema import (
    ENSEMBLE_FILE,
    EXPORT_DIR,
    MANIFEST_FILE,
    METRICS_FILE,
    REPORT_FILE,
)

# TensorFlow release -> newest TF Serving image of that release.
SERVING_RELEASES = {"2.16": "2.16.1", "2.21": "2.21.0"}


def metric_lines(metrics: dict[str, Any]) -> list[str]:
    """Returns the main metrics, and whether fusion helps."""
    lines = [f"Metrics on {metrics['rows']:,} rows, with 95 % intervals:"]
    for name in (*SHOWN_METRICS, *REGRESSION_METRICS, *GENERATE_METRICS):
        value = metrics["metrics"].get(name)
        if value and value["value"] is not None:
            interval = f"({value['low']:.3f} to {value['high']:.3f})"
            lines.append(f"  {name:<18} {value['value']:.3f}  {interval}")
    if metrics.get("fusion_verdict"):
        lines.append(metrics["fusion_verdict"])
    return lines


def member_line(
    name: str, scores: Mapping[str, float], rows: int, weight: float | None = None
) -> str:
    """Returns a line on a member of an ensemble, or on the ensemble.

    `scores` has accuracy and log_loss, or r2, on `rows` validation rows.

    Example:
        >>> member_line("gated", {"r2": 0.5}, 57, weight=0.25)
        'gated: r2 0.500 on 57 validation rows, weight 0.25'
    """
    values = ", ".join(
        f"{key.replace('_', ' ')} {scores[key]:.3f}"
        for key in ("accuracy", "log_loss", "r2")
        if key in scores
    )
    share = "" if weight is None else f", weight {weight:.2f}"
    return f"{name}: {values} on {rows:,} validation rows{share}"


def ensemble_lines(folder: Path) -> list[str]:
    """Returns a line per preset of an ensemble, and one of all; none of one model."""
    if not (folder / ENSEMBLE_FILE).exists():
        return []
    content = read_json(folder, ENSEMBLE_FILE)
    if "validation" not in content:
        return []
    result = content["validation"]
    rows = result["rows"]
    lines = [member_line(p["preset"], p, rows, p["weight"]) for p in content["presets"]]
    return [*lines, member_line("Ensemble", result, rows)]


def run_summary(folder: Path) -> str:
    """Returns the last lines of a run: metrics, paths and the next commands."""
    manifest, metrics = read_json(folder, MANIFEST_FILE), {}
    if (folder / METRICS_FILE).exists():  # not without rows
        metrics = read_json(folder, METRICS_FILE)
    base_path = (folder / EXPORT_DIR).resolve()
    version = latest_version(base_path)
    lines = [
        *ensemble_lines(folder),
        *(metric_lines(metrics) if metrics else ()),
        metrics.get("verdict", ""),
        f"Report:  {folder / REPORT_FILE}" if metrics else "",
        f"Export:  {version}" if version else "",
        f"Serve:   {serve_command(base_path, manifest)}",
        f"Predict: python -m mmkeras.predict --model {shlex.quote(str(folder))} "
        "--data FILE.csv --output predictions.csv",
    ]
    return "\n".join(line for line in lines if line)


def serve_command(base_path: str | Path, manifest: dict[str, Any]) -> str:
    """Returns the command that serves the versions of a folder in Docker.

    The TensorFlow version in the run's manifest selects the image, as TF Serving reads
    graphs of its own release and of older ones.
    """
    tensorflow = manifest.get("versions", {}).get("tensorflow", "")
    release = tensorflow.rpartition(".")[0]
    return (
        "docker run --rm -p 8500:8500 -p 8501:8501 -e MODEL_NAME=mmkeras "
        f"-v {shlex.quote(str(base_path))}:/models/mmkeras "
        f"tensorflow/serving:{SERVING_RELEASES.get(release, 'latest')}"
    )
