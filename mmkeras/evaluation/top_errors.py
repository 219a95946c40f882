"""Wrong predictions with the highest scores, and the content of their rows."""

import numpy as np

from mmkeras.data.dataset import Dataset
from mmkeras.data.input_pipeline import COLUMNS, read_rows
from mmkeras.evaluation.predictions import Predictions
from mmkeras.export.inference import TrainedModel
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
    rows = read_rows(dataset.files(split), columns.values())
    shown = set(indices)
    contents = {i: r for i, r in enumerate(rows.as_numpy_iterator()) if i in shown}
    return [
        _worst_error(predictions, i, contents[i][COLUMNS], columns) for i in indices
    ]


def _most_confident_errors(predictions) -> list[int]:
    wrong = [
        set(a.split(LABEL_SEPARATOR)) != set(b.split(LABEL_SEPARATOR))
        for a, b in zip(predictions.labels, predictions.predicted, strict=True)
    ]
    order = np.argsort(-predictions.scores, kind="stable")
    return [int(i) for i in order if wrong[i]]


def _worst_error(predictions, i, row, columns) -> WorstError:
    previews = {
        name: column.preview(row[name])
        for name, column in columns.items()
        if not column.is_absent(row[name])
    }
    return WorstError(
        id=predictions.ids[i],
        label=predictions.labels[i],
        predicted=predictions.predicted[i],
        score=float(predictions.scores[i]),
        status=predictions.status[i],
        previews=previews,
    )
