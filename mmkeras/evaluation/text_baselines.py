"""Baselines of generated texts: the most frequent text, and that of the nearest row."""

from collections.abc import Mapping

import numpy as np

from mmkeras.data.dataset import Dataset
from mmkeras.data.stored_rows import read_rows
from mmkeras.evaluation.baseline_features import read_baseline_features
from mmkeras.evaluation.predictions import Predictions
from mmkeras.evaluation.scores import compare_scores
from mmkeras.evaluation.task_metrics import measure_task
from mmkeras.evaluation.text_metrics import CHRF, compare_chrf
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import Arrays
from mmkeras.models.model import backbones
from mmkeras.names import split_references
from mmkeras.reports.verdicts import text_verdict
from mmkeras.schema import LABEL, PRESENT, TRAIN

MOST_FREQUENT, NEAREST_ROW = "most_frequent", "nearest_row"
_BLOCK_ROWS = 512


def measure_text_baselines(
    trained_model: TrainedModel,
    dataset: Dataset,
    split: str,
    predictions: Predictions,
    sample: Arrays,
    train_rows: Dataset | None,
    metrics: Mapping[str, dict],
    limit: int,
) -> dict:
    """Measures both baselines on the same rows, and compares the model with the better.

    The better one is that of the higher chrF, which tells apart texts that are never
    equal to a reference.

    `sample` and `train_rows` are as in `evaluate`, and `metrics` those of the model;
    `limit` is the largest number of training rows that are searched. Without
    `train_rows` there is one baseline.
    """
    rows, most_frequent = len(predictions.ids), trained_model.state.texts.most_frequent
    texts = {MOST_FREQUENT: np.full(rows, most_frequent)}
    if train_rows is not None:
        encoded = {key: sample[key] for key in backbones(trained_model.model)}
        rows = len(sample[PRESENT])
        queries, _ = read_baseline_features(
            trained_model, dataset, split, rows, encoded
        )
        texts[NEAREST_ROW] = _predict_nearest(trained_model, train_rows, queries, limit)
    targets = predictions.targets[:rows]
    texts = {name: values.astype(object)[:rows] for name, values in texts.items()}
    measured = {
        name: measure_task(trained_model, targets, values)["metrics"]
        for name, values in texts.items()
    }
    best = max(measured, key=lambda name: measured[name][CHRF]["value"])
    config = trained_model.config
    predicted = predictions.probabilities[:rows]
    settings = config.evaluate.bootstrap_resamples, config.seed
    references = list(map(split_references, targets))
    gain = compare_chrf(references, predicted, texts[best], *settings)
    return {
        "baselines": measured,
        "difference": compare_scores(
            trained_model.state.task, targets, predicted, texts[best], *settings
        ),
        "chrf_difference": gain,
        "verdict": text_verdict(metrics, measured, best, gain),
    }


def _predict_nearest(trained_model, train_rows, queries, limit) -> np.ndarray:
    """Returns the first reference of the training row nearest to each query."""
    features, _ = read_baseline_features(trained_model, train_rows, TRAIN, limit)
    files, rows = train_rows.files(TRAIN), len(features[PRESENT])
    labels = [row[LABEL].decode() for row in read_rows(files, ()).as_numpy_iterator()]
    mask = train_rows.masks.get(TRAIN)
    if mask is not None:
        labels = [label for label, used in zip(labels, mask, strict=True) if used]
    texts = np.array([split_references(label)[0] for label in labels[:rows]], object)
    return texts[find_nearest(features, queries)]


def find_nearest(
    features: Mapping[str, np.ndarray], queries: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Returns the index (N,) of the nearest of R rows to each of N queries.

    Both are blocks of features as from `read_baseline_features`. Each block of a branch
    is standardized by those of the R rows that have it. Rows are near by the sum of the
    cosines of their blocks, to which an absent branch adds nothing.
    """
    parts = [], []
    for i, name in enumerate(name for name in features if name != PRESENT):
        present = features[PRESENT][:, i] > 0
        mean, deviation = _scale(features[name][present])
        for part, values in zip(parts, (features, queries), strict=True):
            unit = _unit_rows((values[name] - mean) / deviation)
            part.append(np.where(values[PRESENT][:, i : i + 1] > 0, unit, 0))
    rows, wanted = (np.concatenate(part, axis=1, dtype=np.float32) for part in parts)
    blocks = [
        np.argmax(wanted[i : i + _BLOCK_ROWS] @ rows.T, axis=1)
        for i in range(0, len(wanted), _BLOCK_ROWS)
    ]
    return np.concatenate(blocks)


def _scale(block) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation of each column; the identity without rows."""
    if not len(block):
        return np.zeros(block.shape[1]), np.ones(block.shape[1])
    deviation = block.std(axis=0)
    return block.mean(axis=0), np.where(deviation > 1e-6, deviation, 1.0)


def _unit_rows(x) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
