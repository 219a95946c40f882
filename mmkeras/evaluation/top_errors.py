"""Wrong predictions with the highest scores, and the content of their rows."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mmkeras.data.dataset import Dataset
from mmkeras.data.stored_rows import COLUMNS, read_rows
from mmkeras.evaluation.predictions import Predictions
from mmkeras.export.inference import TrainedModel
from mmkeras.modalities.column import Column
from mmkeras.modalities.preprocessing_state import REGRESSION
from mmkeras.reports.report import WorstError
from mmkeras.schema import LABEL_SEPARATOR


def top_errors(
    trained_model: TrainedModel, dataset: Dataset, split: str, predictions: Predictions
) -> list[WorstError]:
    """Returns the wrong predictions of the highest scores, with their media.

    In regression these are the largest residuals.
    """
    if trained_model.state.task == REGRESSION:
        residuals = np.abs(predictions.probabilities - predictions.targets)[:, 0]
        indices = np.argsort(-residuals, kind="stable").tolist()
    else:
        indices = _most_confident_errors(predictions)
    indices = indices[: trained_model.config.evaluate.worst_errors]
    columns = trained_model.preprocessor.columns
    contents = read_contents(dataset, split, set(indices), columns)
    return [_worst_error(predictions, i, contents[i], columns) for i in indices]


def read_contents(
    dataset: Dataset,
    split: str,
    indices: Collection[int],
    columns: Mapping[str, Column],
) -> dict[int, dict[str, Any]]:
    """Returns index of a row of the split -> its content by column."""
    rows = read_rows(dataset.files(split), columns.values()).as_numpy_iterator()
    return {i: row[COLUMNS] for i, row in enumerate(rows) if i in indices}


def preview_row(
    row: Mapping[str, Any], columns: Mapping[str, Column]
) -> dict[str, dict[str, Any]]:
    """Returns the previews of the columns that a row has."""
    return {
        name: column.preview(row[name])
        for name, column in columns.items()
        if not column.is_absent(row[name])
    }


def _most_confident_errors(predictions) -> list[int]:
    wrong = [
        set(a.split(LABEL_SEPARATOR)) != set(b.split(LABEL_SEPARATOR))
        for a, b in zip(predictions.labels, predictions.predicted, strict=True)
    ]
    order = np.argsort(-predictions.scores, kind="stable")
    return [int(i) for i in order if wrong[i]]


def _worst_error(predictions, i, row, columns) -> WorstError:
    return WorstError(
        id=predictions.ids[i],
        label=predictions.labels[i],
        predicted=predictions.predicted[i],
        score=float(predictions.scores[i]),
        status=predictions.status[i],
        previews=preview_row(row, columns),
    )
