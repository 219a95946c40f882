"""Metrics and baselines of each task."""

from collections.abc import Mapping

import numpy as np

from mmkeras.evaluation import baselines
from mmkeras.evaluation.metrics import measure
from mmkeras.evaluation.regression_metrics import measure_regression
from mmkeras.evaluation.ridge import fit_ridge
from mmkeras.evaluation.text_metrics import measure_texts
from mmkeras.export.inference import TrainedModel
from mmkeras.modalities.preprocessing_state import GENERATE, REGRESSION
from mmkeras.models.model import get_temperature
from mmkeras.names import split_references


def measure_task(
    trained_model: TrainedModel, targets: np.ndarray, predicted: np.ndarray
) -> dict:
    """Measures (N, C) probabilities, or (N, 1) numbers; see `measure`.

    Of a generator they are (N,) texts, and targets (N,) labels.
    """
    config, state = trained_model.config, trained_model.state
    if state.task == GENERATE:
        resamples = config.evaluate.bootstrap_resamples
        references = list(map(split_references, targets))
        return {
            "rows": len(predicted),
            "metrics": measure_texts(references, predicted, resamples, config.seed),
            "bootstrap_resamples": resamples,
        }
    settings = config.evaluate, config.seed
    if state.task == REGRESSION:
        return measure_regression(targets, predicted, *settings)
    return measure(targets, predicted, state.classes, state.task, *settings)


def calibration(trained_model: TrainedModel) -> dict[str, float]:
    """Returns {"temperature": ...} of classes; {} of other tasks."""
    if not trained_model.state.classes:
        return {}
    return {"temperature": get_temperature(trained_model.model)}


def predict_constant(trained_model: TrainedModel, rows: int) -> tuple[str, np.ndarray]:
    """Returns the name and the predictions of the baseline that knows no row.

    It predicts the frequencies of the classes, or the mean, of the training rows; and
    the classes alike if there are none.
    """
    state = trained_model.state
    if state.task == REGRESSION:
        return "mean", np.full((rows, 1), state.label_scale.mean)
    if state.rows:
        frequencies = np.array([state.class_rows]) / state.rows
    else:  # of a model without training rows
        frequencies = np.full((1, len(state.classes)), 1 / len(state.classes))
    return "majority", baselines.predict_majority(frequencies, rows, state.task)


def predict_linear(
    trained_model: TrainedModel,
    features: Mapping[str, np.ndarray],
    targets: np.ndarray,
    test_features: Mapping[str, np.ndarray],
) -> tuple[str, np.ndarray]:
    """Fits the linear baseline to training rows; returns its name and predictions."""
    task, seed = trained_model.state.task, trained_model.config.seed
    if task == REGRESSION:
        return "ridge", fit_ridge(features, targets, seed).predict(test_features, task)
    model = baselines.fit_logistic_regression(features, targets, task, seed)
    return "logistic_regression", model.predict(test_features, task)
