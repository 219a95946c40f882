"""TFMA's configuration of an evaluation: metrics, slices and thresholds."""

import json

import tensorflow_model_analysis as tfma

from mmkeras.config import Config
from mmkeras.modalities.preprocessing_state import (
    GENERATE,
    MULTILABEL,
    REGRESSION,
    PreprocessingState,
)
from mmkeras.reports.score_text import score_text
from mmkeras.schema import PRESENT
from pipeline.components import per_class_metrics, regression_metrics, text_metrics
from pipeline.components.masked_modality_eval import (
    CHOICE,
    HIDDEN,
    NOTHING,
    PREDICTED,
    SCORES,
    hideable,
)
from pipeline.components.per_class_metrics import ROWS
from pipeline.components.text_metrics import HIGH, LOW, bound_name
from pipeline.settings import GateConfig

LOG_LOSS, CONFUSION = "log_loss", "confusion"
# Metrics of generated text that the gate limits, and their names in sentences.
LIMITED_TEXT_METRICS = {
    "exact_match": "exact match",
    "bleu_4": "BLEU-4",
    "chrf": "chrF",
    "cider_d": "CIDEr-D",
    "word_error_rate": "word error rate",
}
# Tolerance for the rounding error of a difference of max_drop.
_ROUNDING = 1e-9
_Metrics = list[tuple[str, tfma.MetricConfig]]  # with their outputs


def build_eval_config(
    gate: GateConfig, config: Config, state: PreprocessingState
) -> tfma.EvalConfig:
    """Builds the configuration; `config` and `state` are those of the model.

    Accuracy is the share of rows whose predicted classes are exactly the label's. Only
    accuracy, or R² in regression, has thresholds, on all rows and with each branch
    masked. Of generated text they are on the worse end of the 95 % interval of each of
    `LIMITED_TEXT_METRICS`, with a branch masked on the exact match alone.
    """
    slices = (NOTHING, *hideable(state))
    specs = [
        tfma.MetricsSpec(output_names=[output] if output else [], metrics=[metric])
        for output, metric in _metrics(config, state)
    ]
    score, (gated, *_) = score_text(state.task).key, specs
    for hidden in slices:
        for name, threshold in _thresholds(gate, state.task, hidden):
            limits = (
                gated.metrics[0].per_slice_thresholds
                if name == score
                else gated.per_slice_thresholds[name].thresholds  # of other keys
            )
            limits.add(slicing_specs=[_slice(hidden)], threshold=threshold)
    eval_config = tfma.EvalConfig(
        model_specs=[tfma.ModelSpec()],
        slicing_specs=[*map(_slice, slices), tfma.SlicingSpec(feature_keys=[PRESENT])],
        metrics_specs=specs,
    )
    eval_config.options.include_default_metrics.value = False
    return eval_config


def limit_setting(metric: str, hidden: str) -> str:
    """Returns the setting that limits a metric, with a branch masked or with NOTHING.

    Example:
        limit_setting("exact_match_low", "image")  # "min_exact_match_hidden"
    """
    if metric.endswith(HIGH):
        name = f"max_{metric.removesuffix(HIGH)}"
    else:
        name = f"min_{metric.removesuffix(LOW)}"
    return name if hidden == NOTHING else f"{name}_hidden"


def _thresholds(
    gate: GateConfig, task: str, hidden: str
) -> list[tuple[str, tfma.MetricThreshold]]:
    """Returns the limited metrics and their thresholds, with a branch masked or not."""
    score, result = score_text(task).key, []
    names = [score]
    if task == GENERATE:
        limited = LIMITED_TEXT_METRICS if hidden == NOTHING else names
        names = list(map(bound_name, limited))
    for name in names:
        threshold, limit = tfma.MetricThreshold(), limit_setting(name, hidden)
        bounds = threshold.value_threshold
        bound = bounds.upper_bound if name.endswith(HIGH) else bounds.lower_bound
        bound.value = getattr(gate, limit)
        result.append((name, threshold))
    if hidden == NOTHING:
        change = tfma.GenericChangeThreshold(
            direction=tfma.MetricDirection.HIGHER_IS_BETTER,
            absolute={"value": -gate.max_drop - _ROUNDING},
        )
        result.append((score, tfma.MetricThreshold(change_threshold=change)))
    return result


def _metrics(config: Config, state: PreprocessingState) -> _Metrics:
    """Returns the metrics of a model, with the score first."""
    score = score_text(state.task).key
    if state.task == GENERATE:
        resamples = config.evaluate.bootstrap_resamples
        settings = {"module": text_metrics.__name__, "resamples": resamples}
        return [("", _metric("TextScores", score, seed=config.seed, **settings))]
    if state.task == REGRESSION:
        center = state.label_scale.mean
        settings = {"module": regression_metrics.__name__, "center": center}
        return [("", _metric("RegressionErrors", score, **settings))]
    return _class_metrics(score, state)


def _class_metrics(score: str, state: PreprocessingState) -> _Metrics:
    one_label = state.task != MULTILABEL
    entropy = "CategoricalCrossEntropy" if one_label else "BinaryCrossEntropy"
    classes = {"module": per_class_metrics.__name__, "classes": len(state.classes)}
    metrics = [
        (PREDICTED, _metric("ExactMatch", score)),
        (PREDICTED, _metric("ExampleCount", ROWS)),
        (SCORES, _metric(entropy, LOG_LOSS)),
        ("", _metric("ByClass", "by_class", **classes)),
    ]
    if one_label:
        confusion = _metric("MultiClassConfusionMatrixAtThresholds", CONFUSION)
        metrics.append((CHOICE, confusion))
    return metrics


def _metric(kind: str, name: str, module: str = "", **settings) -> tfma.MetricConfig:
    settings = json.dumps({"name": name, **settings})
    return tfma.MetricConfig(class_name=kind, module=module, config=settings)


def _slice(hidden: str) -> tfma.SlicingSpec:
    return tfma.SlicingSpec(feature_values={HIDDEN: hidden})
