"""Does fusion help? What each modality, and each subset of them, brings."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from mmkeras.evaluation.metrics import accuracies, compare, correct, interval
from mmkeras.evaluation.shapley import shapley_values, subsets
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import Arrays, TwoStagePredictor
from mmkeras.schema import PRESENT

# Of the rows for the answers with modalities hidden; token sequences are large.
_SAMPLE_BYTES = 256_000_000


def subset_name(subset: Sequence[str]) -> str:
    """Returns how metrics.json calls a subset: "text+image"; "" is none."""
    return "+".join(subset)


def encode_sample(staged: TwoStagePredictor, batches: tf.data.Dataset) -> Arrays:
    """Encodes rows, (B,) strings by modality, as far as they fit in memory."""
    parts, size = [], 0
    for batch in batches.as_numpy_iterator():
        parts.append(staged.encode({m: list(batch[m]) for m in staged.modalities}))
        size += sum(x.nbytes for x in parts[-1].values())
        if size >= _SAMPLE_BYTES:
            break
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}


def measure_modalities(
    staged: TwoStagePredictor,
    trained_model: TrainedModel,
    inputs: Arrays,
    targets: np.ndarray,
    trained_alone: Mapping[str, np.ndarray],
) -> dict:
    """Measures accuracy with every subset of the modalities, and with each shuffled.

    All are judged on the same bootstrap resamples of the rows.

    Args:
        staged: The model.
        trained: The same model, with its settings.
        inputs: N rows, as `encode_sample` gives them.
        targets: (N or more, C) of 0 and 1.
        trained_alone: Modality -> probabilities (N or more, C) that a model trained on
            it alone gives the same rows.

    Returns:
        "modalities" -> modality -> "alone", "without", "shuffled" and
        where given "trained_alone" -> {"accuracy"};
        "subsets" -> name -> {"accuracy"}; "shapley" -> modality -> its exact share of
        the accuracy, which add up to that of all less that of none; "fusion", the
        comparison with the best modality alone; "sampled_rows". Values are {"value",
        "low", "high"}, with 95 % intervals.
    """
    names, seed = trained_model.state.modalities, trained_model.config.seed
    targets = targets[: len(inputs[PRESENT])]
    answers = {subset: _answer(staged, inputs, subset) for subset in subsets(names)}
    for i, m in enumerate(names):
        answers[m, "shuffled"] = staged.classify(_shuffled(inputs, m, i, seed))
    for m, probabilities in trained_alone.items():
        answers[m, "trained_alone"] = probabilities[: len(targets)]
    task, resamples = (
        trained_model.state.task,
        trained_model.config.evaluate.bootstrap_resamples,
    )
    right = [correct(targets, p, task) for p in answers.values()]
    values, spread = accuracies(right, resamples, seed)
    value, drawn = (dict(zip(answers, x, strict=True)) for x in (values, spread))
    accuracy = {k: {"accuracy": interval(value[k], drawn[k])} for k in answers}
    shares, drawn_shares = shapley_values(value, names), shapley_values(drawn, names)
    return {
        "modalities": {m: _of_modality(m, names, accuracy) for m in names},
        "subsets": {subset_name(s): accuracy[s] for s in subsets(names)},
        "shapley": {m: interval(shares[m], drawn_shares[m]) for m in names},
        "fusion": _fusion(answers, value, targets, trained_model),
        "sampled_rows": len(targets),
    }


def _answer(staged, inputs, subset):
    return staged.classify(inputs, [m for m in staged.modalities if m not in subset])


def _of_modality(m, names, accuracy) -> dict:
    result = {
        "alone": accuracy[m,],
        "without": accuracy[tuple(other for other in names if other != m)],
        "shuffled": accuracy[m, "shuffled"],
    }
    if (m, "trained_alone") in accuracy:
        result["trained_alone"] = accuracy[m, "trained_alone"]
    return result


def _shuffled(inputs: Arrays, modality: str, column: int, seed: int) -> Arrays:
    """Gives each row that has the modality another such row's."""
    rows = np.flatnonzero(inputs[PRESENT][:, column])
    order = np.random.default_rng([seed, column]).permutation(len(rows))
    changed = inputs[modality].copy()
    changed[rows] = changed[rows[order]]
    return {**inputs, modality: changed}


def _fusion(answers, value, targets, trained_model) -> dict:
    """By how much all modalities together are better than the best one alone."""
    names, config = trained_model.state.modalities, trained_model.config
    single = [(m,) for m in names] + [(m, "trained_alone") for m in names]
    best = max((key for key in single if key in answers), key=value.get)
    difference = compare(
        targets,
        answers[names],
        answers[best],
        trained_model.state.task,
        config.seed,
        config.evaluate.bootstrap_resamples,
    )
    return {
        "best_alone": best[0],
        "trained_alone": len(best) > 1,
        "difference": difference,
    }


def fusion_verdict(fusion: dict) -> str:
    """Says in a sentence whether fusion helps.

    Args:
        fusion: The "difference" to "best_alone", and whether that is a model
            "trained_alone" on the one modality, as `measure_modalities` gives them.
    """
    if fusion["trained_alone"]:
        one = f"a model trained on {fusion['best_alone']} alone"
    else:
        one = f"{fusion['best_alone']} alone"
    difference = fusion["difference"]
    low, high = 100 * difference["low"], 100 * difference["high"]
    points = f"{100 * abs(difference['value']):.1f} points of accuracy"
    within = f"95 % interval {low:+.1f} to {high:+.1f}"
    together = "all modalities together are"
    if difference["low"] > 0:
        return f"Fusion helps: {together} {points} above {one} ({within})."
    if difference["high"] < 0:
        return f"Fusion hurts: {together} {points} below {one} ({within})."
    return f"Fusion is not clearly better than {one} ({within} points of accuracy)."
