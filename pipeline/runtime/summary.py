"""Summary of a pipeline run: metrics, pushed version or reasons, and paths."""

import shlex
from pathlib import Path

from mmkeras.files import join_path, read_json
from mmkeras.reports.html import number
from mmkeras.reports.score_text import score_text_of
from mmkeras.reports.summary import serve_command
from mmkeras.schema import MANIFEST_FILE, REPORT_FILE
from pipeline.components.artifacts import PAGE_FILE
from pipeline.components.evaluator import evaluation_summary, rejection_reasons
from pipeline.runtime.lineage import Lineage


def run_summary(root: Path) -> tuple[str, bool]:
    """Returns the summary of the newest run, and whether its model was pushed."""
    steps = Lineage(root).last_run()
    (evaluation,) = steps["Evaluator"].outputs["evaluation"]
    (run,) = steps["Trainer"].outputs["model_run"]
    (media,) = steps["MediaStatistics"].outputs["media_statistics"]
    (pushed,) = steps["Pusher"].outputs["pushed_model"]
    properties = pushed.custom_properties
    lines = _metric_lines(evaluation.uri)
    is_pushed = properties["pushed"].int_value == 1
    if is_pushed:
        version = properties["pushed_destination"].string_value
        base_path = str(Path(version).parent)
        lines.append(f"Pushed:  {version}")
        manifest = read_json(run.uri, MANIFEST_FILE)
        lines.append(f"Serve:   {serve_command(base_path, manifest)}")
        command = f"python -m pipeline.local --root {shlex.quote(str(root))} --status"
        lines.append(f"Lineage: {command}")
    else:
        reasons = [*rejection_reasons(evaluation.uri), *_infra_reasons(steps)]
        lines += [f"Not pushed: {reason}" for reason in reasons]
    lines.append(f"Report:  {join_path(run.uri, REPORT_FILE)}")
    lines.append(f"Media:   {join_path(media.uri, PAGE_FILE)}")
    if "BulkInferrer" in steps and is_pushed:
        (result,) = steps["BulkInferrer"].outputs["inference_result"]
        lines.append(f"Predictions: {result.uri}")
    return "\n".join(lines), is_pushed


def _metric_lines(uri: str) -> list[str]:
    summary = evaluation_summary(uri)
    key, name = (score := score_text_of(summary)).key, score.name
    title, value = name[0].upper() + name[1:], number(summary[key])
    lines = [f"{title} on {summary['rows']:,} test rows: {value}"]
    hidden = [f"{m} {number(v[key])}" for m, v in summary["hidden"].items()]
    if hidden:
        lines.append(f"With one branch hidden: {', '.join(hidden)}")
    return lines


def _infra_reasons(steps) -> list[str]:
    (blessing,) = steps["InfraValidator"].outputs["blessing"]
    reason = blessing.custom_properties["reason"].string_value
    return [f"the export is not verified: {reason}"] if reason else []
