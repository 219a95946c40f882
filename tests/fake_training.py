"""A fake of training that writes finished run folders with known predictions."""

import csv
import json

from mmkeras.config import to_dict
from mmkeras.data.columns import find_columns
from mmkeras.data.splits import assign_splits
from mmkeras.data.table import read_rows
from mmkeras.experiments.subprocess_run import RunOutcome
from mmkeras.export import run_manifest
from mmkeras.reports.metric_names import SHOWN_METRICS
from mmkeras.schema import METRICS_FILE, PREDICTIONS_FILE
from mmkeras.training import run_folder

MAJORITY = {"accuracy": {"value": 0.5, "low": 0.25, "high": 0.75}}


class Trainer:
    """Replaces `run_subprocess` of mmkeras.experiments.

    Attributes:
        wrong: Ids of rows that every run gets wrong.
        failing: Name of a run -> its error.
        interrupted_at: Name of the run that raises KeyboardInterrupt, once.
    """

    def __init__(self, wrong=(), failing=None, interrupted_at=""):
        self.wrong, self.failing = set(wrong), failing or {}
        self.interrupted_at, self.trained_names = interrupted_at, []

    def __call__(self, run):
        if run_folder.is_finished(run.folder):
            return RunOutcome(seconds=10.0, peak_mb=900.0, was_finished=True)
        if run.name == self.interrupted_at:
            self.interrupted_at = ""
            raise KeyboardInterrupt
        if run.name in self.failing:
            return RunOutcome(error=self.failing[run.name])
        self.trained_names.append(run.name)
        write_run(run, self.wrong)
        return RunOutcome(seconds=10.0, peak_mb=900.0)


def write_run(run, wrong) -> None:
    """Writes the files of a run folder that other programs read."""
    columns = list(find_columns(run.table, run.config)[0].columns)
    rows = read_rows(run.table, run.config.table, columns)
    splits = assign_splits(rows, run.config.table, run.config.seed)
    tested = [row for row, s in zip(rows, splits, strict=True) if s == "test"]
    classes = sorted({label for row in rows for label in row.labels})
    predictions = []
    for row in tested:
        label = "|".join(row.labels)
        predicted = "nothing" if row.id in wrong else label
        scores = ["0.9", "ok", *["0.5"] * len(classes)]
        predictions.append([row.id, label, predicted, *scores])
    with run_folder.locked_folder(run.folder):
        with (run.folder / PREDICTIONS_FILE).open("w", newline="") as file:
            header = ["id", "label", "predicted", "score", "status", *classes]
            csv.writer(file).writerows([header, *predictions])
        accuracy = sum(row[1] == row[2] for row in predictions) / len(predictions)
        metrics = {name: {"value": accuracy} for name in SHOWN_METRICS}
        metrics["roc_auc"] = {"value": None}
        content = {"metrics": metrics, "baselines": {"majority": MAJORITY}}
        (run.folder / METRICS_FILE).write_text(json.dumps(content))
        data, settings = run_folder.data_name(run.table), to_dict(run.config)
        run_manifest.write_manifest(
            run.folder, data=data, settings=settings, finished=True
        )
        (run.folder / "checkpoints" / "phase1-epoch00001").mkdir(parents=True)
        run_folder.write_config(run.folder, run.config)
