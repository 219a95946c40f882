"""Score as noise on one branch grows while the other branches stay the same."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from mmkeras.data.stored_rows import COLUMNS
from mmkeras.evaluation.scores import score, score_interval
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import TwoStagePredictor
from mmkeras.modalities.branch import Branch
from mmkeras.modalities.file import Unreadable


def noise_curves(
    predictor: TwoStagePredictor,
    trained_model: TrainedModel,
    batches: tf.data.Dataset,
    targets: np.ndarray,
) -> dict[str, list[dict]]:
    """Measures the score at each level of noise on one branch.

    `batches` are rows of `read_rows`, N in all; `targets` are (N, C).

    Returns:
        Branch -> [{"level", "accuracy": {"value", "low", "high"}}, ...] by level; in
        regression "r2". Branches without noise, such as vectors, are left out. All
        levels of a branch share the bootstrap resamples.
    """
    seed = trained_model.config.seed
    noisy = {n: b for n, b in predictor.branches.items() if b.columns[0].noise_levels}
    levels = {name: branch.columns[0].noise_levels for name, branch in noisy.items()}
    probabilities = {name: [[] for _ in levels[name]] for name in noisy}
    start = 0
    for batch in batches.as_numpy_iterator():
        data = batch[COLUMNS]
        inputs = predictor.encode(data)
        clean = predictor.predict(inputs)
        for name, branch in noisy.items():
            probabilities[name][0].append(clean)
            later = zip(levels[name][1:], probabilities[name][1:], strict=True)
            for level, parts in later:
                changed = {
                    column.name: _corrupt_all(
                        column, data[column.name], level, start, seed + i
                    )
                    for i, column in enumerate(branch.columns)
                }
                rows = predictor.replace_branch(inputs, name, changed)
                parts.append(predictor.predict(rows))
        start += len(clean)
    return {
        name: _curve(levels[name], parts, targets, trained_model)
        for name, parts in probabilities.items()
    }


def noise_axes(branches: Iterable[Branch]) -> dict[str, tuple[str, str, float]]:
    """Returns branch -> heading, unit and factor of the levels, for the charts."""
    first = {branch.name: branch.columns[0] for branch in branches}
    return {
        n: (c.noise_heading, c.noise_unit, c.noise_factor) for n, c in first.items()
    }


def _corrupt_all(column, values, level, start, seed) -> list:
    """Returns the values of consecutive rows with noise."""
    return [_corrupt(column, x, level, [seed, i]) for i, x in enumerate(values, start)]


def _corrupt(column, value, level, seed):
    if column.is_absent(value):
        return value
    try:
        return column.corrupt(value, level, seed)
    except Unreadable:  # unreadable for the model too
        return value


def _curve(levels, probabilities, targets, trained_model) -> list[dict]:
    task, config = trained_model.state.task, trained_model.config
    predictions = [np.concatenate(p) for p in probabilities]
    resamples = config.evaluate.bootstrap_resamples
    values, spread = score(task, targets, predictions, resamples, config.seed)
    return [
        {"level": level, **score_interval(task, value, samples, len(targets))}
        for level, value, samples in zip(levels, values, spread, strict=True)
    ]
