"""Accuracy with subsets of the modalities, and each modality's Shapley value."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from mmkeras.data.input_pipeline import COLUMNS
from mmkeras.evaluation.bootstrap import accuracies, compare_accuracies, interval
from mmkeras.evaluation.metrics import correct_rows
from mmkeras.evaluation.shapley import shapley_values, subsets
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import Arrays, TwoStagePredictor
from mmkeras.schema import PRESENT

_SAMPLE_BYTES = 256_000_000  # limit of encoded rows; token sequences are large


def subset_name(subset: Sequence[str]) -> str:
    """Returns a subset's key in metrics.json: "text+image"; "" for none."""
    return "+".join(subset)


def encode_sample(predictor: TwoStagePredictor, batches: tf.data.Dataset) -> Arrays:
    """Encodes rows of `read_rows`, in batches, as far as they fit in memory."""
    parts, size = [], 0
    for batch in batches.as_numpy_iterator():
        parts.append(predictor.encode(batch[COLUMNS]))
        size += sum(x.nbytes for x in parts[-1].values())
        if size >= _SAMPLE_BYTES:
            break
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def measure_modalities(
    predictor: TwoStagePredictor,
    trained_model: TrainedModel,
    inputs: Arrays,
    targets: np.ndarray,
    unimodal: Mapping[str, np.ndarray],
) -> dict:
    """Measures accuracy with every subset of the modalities, and with each shuffled.

    All values share the bootstrap resamples of the N rows. `inputs` are from
    `encode_sample`, `targets` (N or more, C) of 0 and 1; `unimodal` is modality ->
    probabilities (N or more, C) of a model trained on that modality alone, for the
    same rows.

    Returns:
        "modalities" -> modality -> "alone", "without", "shuffled" and with `unimodal`
        "trained_alone" -> {"accuracy"}; "subsets" -> name -> {"accuracy"}; "shapley"
        -> modality -> its exact Shapley value; they add up to the accuracy of all
        minus that of none; "fusion", the comparison with the best single modality;
        "sampled_rows". Values are {"value", "low", "high"}, with 95 % intervals.
    """
    names, config = tuple(predictor.branches), trained_model.config
    seed, resamples = config.seed, config.evaluate.bootstrap_resamples
    targets = targets[: len(inputs[PRESENT])]
    probabilities = {
        subset: predictor.classify(inputs, [m for m in names if m not in subset])
        for subset in subsets(names)
    }
    for i, m in enumerate(names):
        shuffled = _shuffle(inputs, predictor.branches[m].key, i, seed)
        probabilities[m, "shuffled"] = predictor.classify(shuffled)
    for m, values in unimodal.items():
        probabilities[m, "trained_alone"] = values[: len(targets)]
    correct = {
        key: correct_rows(targets, p, trained_model.state.task)
        for key, p in probabilities.items()
    }
    value, spread = (
        dict(zip(correct, x, strict=True))
        for x in accuracies(list(correct.values()), resamples, seed)
    )
    n = len(targets)
    accuracy = {k: {"accuracy": interval(value[k], spread[k], n)} for k in correct}
    shares, share_spread = shapley_values(value, names), shapley_values(spread, names)
    single = [(m,) for m in names] + [
        (m, "trained_alone") for m in names if m in unimodal
    ]
    best = max(single, key=value.get)
    return {
        "modalities": {m: _modality_metrics(m, names, accuracy) for m in names},
        "subsets": {subset_name(s): accuracy[s] for s in subsets(names)},
        "shapley": {m: interval(shares[m], share_spread[m], n, -1) for m in names},
        "fusion": {
            "best_alone": best[0],
            "trained_alone": len(best) > 1,
            "difference": compare_accuracies(
                correct[names], correct[best], resamples, seed
            ),
        },
        "sampled_rows": n,
    }


def _modality_metrics(m, names, accuracy) -> dict:
    result = {
        "alone": accuracy[m,],
        "without": accuracy[tuple(other for other in names if other != m)],
        "shuffled": accuracy[m, "shuffled"],
    }
    if (m, "trained_alone") in accuracy:
        result["trained_alone"] = accuracy[m, "trained_alone"]
    return result


def _shuffle(inputs: Arrays, key: str, column: int, seed: int) -> Arrays:
    """Permutes the input of one branch among the rows that have it."""
    rows = np.flatnonzero(inputs[PRESENT][:, column])
    order = np.random.default_rng([seed, column]).permutation(len(rows))
    values = inputs[key].copy()
    values[rows] = values[rows[order]]
    return {**inputs, key: values}
