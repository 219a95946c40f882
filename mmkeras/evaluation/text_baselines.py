"""Baselines of generated texts: the most frequent text, and that of the nearest row."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmkeras.data.dataset import Dataset
from mmkeras.data.stored_rows import read_rows
from mmkeras.evaluation.baseline_features import read_baseline_features
from mmkeras.evaluation.predictions import Predictions
from mmkeras.evaluation.scores import compare_scores
from mmkeras.evaluation.task_metrics import measure_task
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
    limit: int,
) -> dict:
    """Measures both baselines on the same rows, and compares the model with the better.

    `sample` and `train_rows` are as in `evaluate`; `limit` is the largest number of
    training rows that are searched. Without `train_rows` there is one baseline.
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
    best = max(measured, key=lambda name: measured[name]["exact_match"]["value"])
    config = trained_model.config
    predicted = predictions.probabilities[:rows]
    task, resamples = trained_model.state.task, config.evaluate.bootstrap_resamples
    difference = compare_scores(
        task, targets, predicted, texts[best], resamples, config.seed
    )
    model = measure_task(trained_model, targets, predicted)["metrics"]
    verdict = text_verdict(model, measured, best, difference)
    return {"baselines": measured, "difference": difference, "verdict": verdict}


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

    Both are blocks of features as from `read_baseline_features`. Each block is
    standardized by the R rows and weighs the same, whatever its width; rows are near by
    the cosine of all.
    """
    scales = {name: _scale(block) for name, block in features.items()}
    rows = _unit_rows([(x - scales[n][0]) / scales[n][1] for n, x in features.items()])
    wanted = _unit_rows([(queries[n] - m) / d for n, (m, d) in scales.items()])
    blocks: Sequence[np.ndarray] = [
        np.argmax(wanted[i : i + _BLOCK_ROWS] @ rows.T, axis=1)
        for i in range(0, len(wanted), _BLOCK_ROWS)
    ]
    return np.concatenate(blocks)


def _scale(block) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and deviation, the second times the root of the block's width."""
    deviation = block.std(axis=0)
    deviation = np.where(deviation > 1e-6, deviation, 1.0)
    return block.mean(axis=0), deviation * block.shape[1] ** 0.5


def _unit_rows(blocks) -> np.ndarray:
    x = np.concatenate(blocks, axis=1).astype(np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
