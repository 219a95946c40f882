"""Score with subsets of the modalities, and each modality's Shapley value."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from mmkeras.data.stored_rows import COLUMNS
from mmkeras.evaluation.scores import (
    compare_scores,
    difference_interval,
    score,
    score_interval,
)
from mmkeras.evaluation.shapley import sampled_orders, shapley_values, subsets
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
    """Measures the score with `subsets` of the modalities, and with each shuffled.

    All values share the bootstrap resamples of the N rows. `inputs` are from
    `encode_sample`, `targets` (N or more, C); `unimodal` is modality ->
    predictions (N or more, C) of a model trained on that modality alone, for the
    same rows.

    Returns:
        "modalities" -> modality -> "alone", "without", "shuffled" and with `unimodal`
        "trained_alone" -> {"accuracy"}, in regression {"r2"}; "subsets" -> name -> the
        same; "shapley" -> modality -> its Shapley value; they add up to the score of
        all minus that of none; "fusion", the comparison with the best single modality;
        "sampled_rows". Values are {"value", "low", "high"}, with 95 % intervals.
        Above 8 modalities there are some subsets only, and the Shapley values are
        estimates from as many orders of the modalities as "shapley_orders".
    """
    names, config = tuple(predictor.branches), trained_model.config
    seed, resamples = config.seed, config.evaluate.bootstrap_resamples
    targets = targets[: len(inputs[PRESENT])]
    probabilities = {
        subset: predictor.predict(inputs, [m for m in names if m not in subset])
        for subset in subsets(names)
    }
    for i, m in enumerate(names):
        shuffled = _shuffle(inputs, predictor.keys[m], i, seed)
        probabilities[m, "shuffled"] = predictor.predict(shuffled)
    for m, values in unimodal.items():
        probabilities[m, "trained_alone"] = values[: len(targets)]
    task, n = trained_model.state.task, len(targets)
    value, spread = (
        dict(zip(probabilities, x, strict=True))
        for x in score(task, targets, list(probabilities.values()), resamples, seed)
    )
    scores = {k: score_interval(task, value[k], spread[k], n) for k in probabilities}
    shares, share_spread = shapley_values(value, names), shapley_values(spread, names)
    single = [(m,) for m in names] + [
        (m, "trained_alone") for m in names if m in unimodal
    ]
    orders = sampled_orders(names)
    best = max(single, key=value.get)
    return {
        "modalities": {m: _modality_metrics(m, names, scores) for m in names},
        "subsets": {subset_name(s): scores[s] for s in subsets(names)},
        "shapley": {
            m: difference_interval(task, shares[m], share_spread[m], n) for m in names
        },
        "fusion": {
            "best_alone": best[0],
            "trained_alone": len(best) > 1,
            "difference": compare_scores(
                task,
                targets,
                probabilities[names],
                probabilities[best],
                resamples,
                seed,
            ),
        },
        "sampled_rows": n,
        **({"shapley_orders": len(orders)} if orders else {}),
    }


def _modality_metrics(m, names, scores) -> dict:
    result = {
        "alone": scores[m,],
        "without": scores[tuple(other for other in names if other != m)],
        "shuffled": scores[m, "shuffled"],
    }
    if (m, "trained_alone") in scores:
        result["trained_alone"] = scores[m, "trained_alone"]
    return result


def _shuffle(inputs: Arrays, keys: Sequence[str], column: int, seed: int) -> Arrays:
    """Permutes the inputs of one branch among the rows that have it."""
    rows = np.flatnonzero(inputs[PRESENT][:, column])
    order = np.random.default_rng([seed, column]).permutation(len(rows))
    shuffled = {key: inputs[key].copy() for key in keys}
    for values in shuffled.values():
        values[rows] = values[rows[order]]
    return {**inputs, **shuffled}
