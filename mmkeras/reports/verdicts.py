"""Sentences that summarize an evaluation: model against baselines, value of fusion."""

import shlex
from collections.abc import Collection, Mapping

from mmkeras.config import Config
from mmkeras.config.presets import PRESETS

# Settings of the features of a row, as far as the encoder has one vector per row.
_FEATURE_SETTINGS = {
    "text": "encoder hub_handle tokens max_ngram min_rows vocab_size".split(),
    "audio": "encoder hub_handle rate_hz clip_s window_ms hop_ms bands low_hz high_hz "
    "mfccs".split(),
}


def baseline_verdict(
    model: Mapping[str, dict],
    majority: Mapping[str, dict],
    logistic: Mapping[str, dict],
    difference: Mapping[str, float],
    config: Config,
    types: Collection[str],
) -> str:
    """Returns a sentence on whether the model is better than the baselines.

    Metrics are `measure(...)["metrics"]`, of which only accuracy is used; `difference`
    is {"value", "low", "high"} of the model's accuracy minus that of logistic
    regression, in [-1, 1]. `types` are those of the model's columns.
    """
    accuracy, frequent, simple = (
        100 * metrics["accuracy"]["value"] for metrics in (model, majority, logistic)
    )
    start = f"The model (accuracy {accuracy:.1f} %)"
    if 100 * model["accuracy"]["low"] <= frequent:
        start += (
            " is not clearly better than always predicting the most frequent class "
            f"({frequent:.1f} %), and"
        )
    points, low, high = (100 * difference[k] for k in ("value", "low", "high"))
    interval = f"95 % interval {low:+.1f} to {high:+.1f}"
    baseline = f"logistic regression on the same features ({simple:.1f} %)"
    linear = _linear_model(config, types)
    if low > 0:
        return f"{start} is better than {baseline} by {points:.1f} points ({interval})."
    if high < 0:
        return (
            f"{start} is worse than {baseline} by {-points:.1f} points ({interval}): "
            f"use {linear}, which trains in a second."
        )
    return (
        f"{start} is not clearly better than {baseline}: the difference is "
        f"{points:+.1f} points ({interval}), and {linear} trains in a second."
    )


def _linear_model(config: Config, types: Collection[str]) -> str:
    """Returns the flags of the logistic regression on the same features."""
    flags, preset = ["--preset", "linear"], PRESETS["linear"]()
    for m in (name for name in _FEATURE_SETTINGS if name in types):
        branch = getattr(config, m)
        if branch.is_sequence:  # measured on counts of tokens, or means of frames
            return f"a similar model (`{shlex.join(flags[:2])}`)"
        if branch.encoder != "vector":  # known from the table
            for name in _FEATURE_SETTINGS[m]:
                value = getattr(branch, name)
                if value != getattr(getattr(preset, m), name):
                    flags += [f"--{m}.{name}", str(value)]
    return f"`{shlex.join(flags)}`"


def linear_verdict(model: Mapping[str, dict], majority: Mapping[str, dict]) -> str:
    """Returns a sentence on a logistic regression; arguments as `baseline_verdict`."""
    accuracy, frequent = (100 * m["accuracy"]["value"] for m in (model, majority))
    is_better = 100 * model["accuracy"]["low"] > frequent
    return (
        f"The model, a logistic regression (accuracy {accuracy:.1f} %), is "
        f"{'' if is_better else 'not clearly '}better than always predicting the most "
        f"frequent class ({frequent:.1f} %)."
    )


def fusion_verdict(fusion: Mapping) -> str:
    """Returns a sentence on whether fusion helps.

    `fusion` is that of `measure_modalities`: the "difference" in accuracy to
    "best_alone", and whether that is a model "trained_alone" on the modality.
    """
    single = f"{fusion['best_alone']} alone"
    if fusion["trained_alone"]:
        single = f"a model trained on {single}"
    difference = fusion["difference"]
    low, high = 100 * difference["low"], 100 * difference["high"]
    points = f"{100 * abs(difference['value']):.1f} points of accuracy"
    interval = f"95 % interval {low:+.1f} to {high:+.1f}"
    if low <= 0 <= high:
        return (
            f"Fusion is not clearly better than {single} ({interval} points of "
            "accuracy)."
        )
    verb, side = ("helps", "above") if low > 0 else ("hurts", "below")
    return (
        f"Fusion {verb}: all modalities together are {points} {side} {single} "
        f"({interval})."
    )
