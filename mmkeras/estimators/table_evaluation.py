"""Evaluation of a run's model on a table with labels."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmkeras.data.dataset import Dataset, bad_rows_csv
from mmkeras.data.ingest import ingest
from mmkeras.data.table import check_columns
from mmkeras.data.tables import open_table
from mmkeras.evaluation.evaluate import check_known_labels, evaluate
from mmkeras.export.inference import TrainedModel
from mmkeras.export.run_manifest import read_manifest
from mmkeras.files import write_text
from mmkeras.names import clean_name
from mmkeras.schema import HISTORY_FILE, TEST, TRAIN, WARNINGS_FILE
from mmkeras.training.run_folder import data_name

_TRAINING_ROWS = (
    "The table has the training rows of the run, so its metrics are too good. Without "
    "a table, evaluate returns the metrics of the test rows."
)


def evaluate_table(
    trained_model: TrainedModel,
    folder: Path,
    table: Any,
    output: Path,
    split: str,
    on_bad_row: str,
) -> dict[str, Any]:
    """Evaluates the model of the run folder on a table; returns the metrics.

    Args:
        table: Anything that `open_table` takes.
        output: Folder for metrics.json, predictions.csv, report.html, ...
        split: Rows to use; all if the table has no split column.
        on_bad_row: What to do about unreadable rows, as for training.

    Raises:
        UserError: The table cannot be used, or a label is unknown to the model.
    """
    dataset, used = _ingest(trained_model, folder, table, split, on_bad_row)
    check_known_labels(trained_model, dataset, used)
    output.mkdir(parents=True, exist_ok=True)
    if dataset.suspicious:
        write_text(output / WARNINGS_FILE, bad_rows_csv(dataset.suspicious))
    path = folder / HISTORY_FILE  # absent after an interrupt in the first epoch
    name = open_table(table).name
    return evaluate(
        trained_model,
        dataset,
        used,
        output,
        history=json.loads(path.read_text()) if path.exists() else [],
        summary={"Model": str(folder), "Table": name, "Rows used": split},
        train_rows=None,
    )


def _ingest(trained_model, folder, table, split, on_bad_row) -> tuple[Dataset, str]:
    """Returns the data set with the rows to use, and their split in it."""
    config = trained_model.config
    check_columns(table, list(trained_model.preprocessor.columns))
    manifest, name = read_manifest(folder), data_name(table)
    if manifest["data"] == name:
        # The table of the run: its cached data set has the same splits.
        dataset = ingest(table, config)
        if dataset.content == manifest["content"]:
            return dataset, split
    config = replace(config, on_bad_row=on_bad_row)
    dataset = ingest(table, config, only=split)
    has_splits = clean_name(config.table.split_column) in open_table(table).columns
    # It was fitted with other rows to validate.
    is_training = name == manifest.get("train_table")
    if is_training and (split == TRAIN or not has_splits):
        dataset = replace(dataset, warnings=(*dataset.warnings, _TRAINING_ROWS))
    return dataset, TEST
