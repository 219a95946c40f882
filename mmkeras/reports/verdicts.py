"""Sentences that summarize an evaluation: model against baselines, value of fusion."""

from collections.abc import Mapping

from mmkeras.config import TextConfig
from mmkeras.config.presets import PRESETS


def baseline_verdict(
    model: Mapping[str, dict],
    majority: Mapping[str, dict],
    logistic: Mapping[str, dict],
    difference: Mapping[str, float],
    text: TextConfig | None,
) -> str:
    """Returns a sentence on whether the model is better than the baselines.

    Metrics are `measure(...)["metrics"]`, of which only accuracy is used; `difference`
    is {"value", "low", "high"} of the model's accuracy minus that of logistic
    regression, in [-1, 1]; `text` is None for rows without texts.
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
    if low > 0:
        return f"{start} is better than {baseline} by {points:.1f} points ({interval})."
    if high < 0:
        return (
            f"{start} is worse than {baseline} by {-points:.1f} points ({interval}): "
            f"use {_linear_model(text)}, which trains in a second."
        )
    return (
        f"{start} is not clearly better than {baseline}: the difference is "
        f"{points:+.1f} points ({interval}), and {_linear_model(text)} trains in a "
        "second."
    )


def _linear_model(text) -> str:
    """Returns the flags of the logistic regression, on these features of texts."""
    flags, preset = "--preset linear", PRESETS["linear"]()
    if text is None or text.encoder == "vector":
        return f"`{flags}`"
    if text.encoder != "tfidf":
        return f"a similar model (`{flags}`)"
    for name in ("tokens", "max_ngram", "min_rows", "vocab_size"):
        value = getattr(text, name)
        if value != getattr(preset.text, name):
            flags += f" --text.{name} {value}"
    return f"`{flags}`"


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
