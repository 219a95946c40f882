"""Sentences that summarize an evaluation: model against baselines, value of fusion."""

import shlex
from collections.abc import Collection, Mapping

from mmkeras.config import Config
from mmkeras.config.presets import PRESETS
from mmkeras.modalities.columns import column_entry, recognised_entry
from mmkeras.modalities.types import TYPES
from mmkeras.modalities.vector.column import Vector
from mmkeras.reports.score_text import EXACT_MATCH, score_text, score_text_of

_SIMILAR = "a similar model (`--preset linear`)"
_SAME_ENCODERS = "a similar model (`--fusion.kind linear` with the same encoders)"


def baseline_verdict(
    model: Mapping[str, dict],
    constant: Mapping[str, dict],
    linear: Mapping[str, dict],
    difference: Mapping[str, float],
    config: Config,
    types: Collection[str],
) -> str:
    """Returns a sentence on whether the model is better than the baselines.

    Metrics are `measure_task(...)["metrics"]`, of which only the score is used;
    `difference` is {"value", "low", "high"} of the model's score minus that of the
    linear baseline. `types` are those of the model's columns.
    """
    score = score_text_of(model)
    if None in (model[score.key]["value"], difference["value"]):
        return ""  # all labels are equal
    shown, frequent, simple = (
        score.value(metrics[score.key]["value"])
        for metrics in (model, constant, linear)
    )
    start = f"The model ({score.name} {shown})"
    if model[score.key]["low"] <= constant[score.key]["value"]:
        start += (
            f" is not clearly better than always predicting {score.constant} "
            f"({frequent}), and"
        )
    value, interval = difference["value"], score.interval(difference)
    baseline = f"{score.linear} on the same features ({simple})"
    command = _linear_model(config, types)
    if difference["low"] > 0:
        gain = score.difference(value)
        return f"{start} is better than {baseline} by {gain} ({interval})."
    if difference["high"] < 0:
        return (
            f"{start} is worse than {baseline} by {score.difference(-value)} "
            f"({interval}): use {command}, which trains in a second."
        )
    return (
        f"{start} is not clearly better than {baseline}: the difference is "
        f"{score.difference(value, '+')} ({interval}), and {command} trains in a "
        "second."
    )


def _linear_model(config: Config, types: Collection[str]) -> str:
    """Returns the flags of the logistic regression on the same features."""
    flags, preset = ["--preset", "linear"], PRESETS["linear"]()
    columns = {n: column_entry(n, entry) for n, entry in config.columns.items()}
    if any(entry != recognised_entry(entry) for entry in columns.values()):
        return _SIMILAR  # a column has settings of its own
    for kind in (kind for name, kind in TYPES.items() if name in types):
        settings = getattr(config, kind.section or kind.type)
        defaults = getattr(preset, kind.section or kind.type)
        if getattr(settings, "is_frozen", False):
            return _SAME_ENCODERS  # measured on their outputs
        has_stand_in = kind.feature_settings and getattr(
            settings, "is_pretrained", False
        )
        if has_stand_in or getattr(settings, "is_sequence", False):
            # Measured on counts of tokens, means of frames, or statistics of waves.
            return _SIMILAR
        if getattr(settings, "encoder", "") != Vector.type:  # known from the table
            for name in kind.feature_settings:
                if (value := getattr(settings, name)) != getattr(defaults, name):
                    flags += [f"--{kind.type}.{name}", str(value)]
    return f"`{shlex.join(flags)}`"


def linear_verdict(model: Mapping[str, dict], constant: Mapping[str, dict]) -> str:
    """Returns a sentence on a linear model; arguments as `baseline_verdict`."""
    score = score_text_of(model)
    if model[score.key]["value"] is None:
        return ""
    shown, frequent = (score.value(m[score.key]["value"]) for m in (model, constant))
    is_better = model[score.key]["low"] > constant[score.key]["value"]
    return (
        f"The model, a {score.linear} ({score.name} {shown}), is "
        f"{'' if is_better else 'not clearly '}better than always predicting "
        f"{score.constant} ({frequent})."
    )


def text_verdict(
    model: Mapping[str, dict],
    baselines: Mapping[str, Mapping[str, dict]],
    best: str,
    gain: Mapping[str, float],
) -> str:
    """Returns a sentence on whether generated texts are better than those of baselines.

    Metrics are `measure_task(...)["metrics"]`, those of `baselines` by name; `best` is
    the one with the higher chrF, and `gain` {"value", "low", "high"} is the model's
    chrF minus that of it.
    """
    names = {"most_frequent": EXACT_MATCH.constant, "nearest_row": EXACT_MATCH.linear}
    better = f"{names[best]} ({_both_scores(baselines[best])})"
    better += ", the better baseline" if len(baselines) > 1 else ""
    interval = f"95 % interval {gain['low']:+.3f} to {gain['high']:+.3f}"
    verb = "not clearly better"
    if gain["low"] > 0 or gain["high"] < 0:
        verb = "better" if gain["low"] > 0 else "worse"
    return (
        f"The model ({_both_scores(model)}) is {verb} than {better}: the difference is "
        f"{gain['value']:+.3f} of chrF ({interval})."
    )


def _both_scores(metrics) -> str:
    exact, chrf = (metrics[name]["value"] for name in (EXACT_MATCH.key, "chrf"))
    return f"exact match {EXACT_MATCH.value(exact)}, chrF {chrf:.3f}"


def fusion_verdict(fusion: Mapping, task: str = "") -> str:
    """Returns a sentence on whether fusion helps.

    `fusion` is that of `measure_modalities`: the "difference" in the task's score to
    "best_alone", and whether that is a model "trained_alone" on the modality.
    """
    score = score_text(task)
    single = f"{fusion['best_alone']} alone"
    if fusion["trained_alone"]:
        single = f"a model trained on {single}"
    difference = fusion["difference"]
    if difference["value"] is None:  # all labels are equal
        return ""
    of_score = f"{'points of' if score.is_share else 'of'} {score.name}"
    interval = score.interval(difference)
    if difference["low"] <= 0 <= difference["high"]:
        return f"Fusion is not clearly better than {single} ({interval} {of_score})."
    verb, side = ("helps", "above") if difference["low"] > 0 else ("hurts", "below")
    amount = f"{score.difference(abs(difference['value']))} of {score.name}"
    return (
        f"Fusion {verb}: all modalities together are {amount} {side} {single} "
        f"({interval})."
    )
