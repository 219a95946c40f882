"""Evaluator: TFX component that measures a model and decides whether it is pushed."""

import json
import math
import os
from collections import defaultdict

import tensorflow_model_analysis as tfma
from tfx.components.evaluator import executor
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ExecutionParameter
from tfx.utils import io_utils, path_utils, proto_utils

from mmkeras.modalities.preprocessing_state import (
    MULTILABEL,
    REGRESSION,
    PreprocessingState,
)
from mmkeras.reports.score_text import ScoreText, score_text, score_text_of
from mmkeras.schema import LABELS_FILE, PRESENT
from pipeline.components import (
    masked_modality_eval,
    per_class_metrics,
    regression_metrics,
)
from pipeline.components.custom_component import CustomComponent
from pipeline.components.masked_modality_eval import (
    CHOICE,
    HIDDEN,
    NOTHING,
    PREDICTED,
    SCORES,
)
from pipeline.components.per_class_metrics import AUC, PRECISION, RECALL, ROWS
from pipeline.components.regression_metrics import MAE, R2, RMSE
from pipeline.settings import GateConfig

GATE_KEY, CODE_KEY = "gate", "code"  # execution properties besides the stock ones

_ACCURACY, _LOG_LOSS, _CONFUSION = "accuracy", "log_loss", "confusion"
# Metrics on all rows, with a branch masked, and by the branches of a row.
_CLASS_NAMES = (_ACCURACY, _LOG_LOSS, AUC), (_ACCURACY, _LOG_LOSS), (_ACCURACY,)
_NUMBER_NAMES = ((R2, RMSE, MAE),) * 3
# Tolerance for the rounding error of a difference of max_drop.
_ROUNDING = 1e-9


def build_eval_config(gate: GateConfig, state: PreprocessingState) -> tfma.EvalConfig:
    """Builds TFMA's configuration of metrics, slices and thresholds.

    Accuracy is the share of rows whose predicted classes are exactly the label's. Only
    accuracy, or R² in regression, has thresholds, on all rows and with each branch
    masked.
    """
    slices = (NOTHING, *masked_modality_eval.hideable(state))
    score = score_text(state.task).key
    build = _number_metrics if state.task == REGRESSION else _class_metrics
    metrics = build(score, state)
    _, gated = metrics[0]
    gated.per_slice_thresholds.extend(_limit(gate, score, hidden) for hidden in slices)
    config = tfma.EvalConfig(
        model_specs=[tfma.ModelSpec()],
        slicing_specs=[*map(_slice, slices), tfma.SlicingSpec(feature_keys=[PRESENT])],
        metrics_specs=[
            tfma.MetricsSpec(output_names=[output] if output else [], metrics=[metric])
            for output, metric in metrics
        ],
    )
    config.options.include_default_metrics.value = False
    return config


def _number_metrics(
    score: str, state: PreprocessingState
) -> list[tuple[str, tfma.MetricConfig]]:
    """Returns the metrics of a regression and their outputs, the score first."""
    settings = {"module": regression_metrics.__name__, "center": state.label_scale.mean}
    return [("", _metric("RegressionErrors", score, **settings))]


def _class_metrics(
    score: str, state: PreprocessingState
) -> list[tuple[str, tfma.MetricConfig]]:
    """Returns the metrics of classes and their outputs, the score first."""
    one_label = state.task != MULTILABEL
    entropy = "CategoricalCrossEntropy" if one_label else "BinaryCrossEntropy"
    classes = {"module": per_class_metrics.__name__, "classes": len(state.classes)}
    metrics = [
        (PREDICTED, _metric("ExactMatch", score)),
        (PREDICTED, _metric("ExampleCount", ROWS)),
        (SCORES, _metric(entropy, _LOG_LOSS)),
        ("", _metric("ByClass", "by_class", **classes)),
    ]
    if one_label:
        confusion = _metric("MultiClassConfusionMatrixAtThresholds", _CONFUSION)
        metrics.append((CHOICE, confusion))
    return metrics


def _limit(gate: GateConfig, score: str, hidden: str) -> tfma.PerSliceMetricThreshold:
    """Returns the thresholds of the score with a branch masked, or with NOTHING."""
    limit = tfma.PerSliceMetricThreshold(slicing_specs=[_slice(hidden)])
    minimum = getattr(gate, _minimum(score, hidden))
    limit.threshold.value_threshold.lower_bound.value = minimum
    if hidden == NOTHING:
        change = limit.threshold.change_threshold
        change.direction = tfma.MetricDirection.HIGHER_IS_BETTER
        change.absolute.value = -gate.max_drop - _ROUNDING
    return limit


def _minimum(score: str, hidden: str) -> str:
    """Returns the setting of the lowest score with a branch masked, or with NOTHING."""
    return f"min_{score}" if hidden == NOTHING else f"min_{score}_hidden"


def _metric(kind: str, name: str, module: str = "", **settings) -> tfma.MetricConfig:
    settings = json.dumps({"name": name, **settings})
    return tfma.MetricConfig(class_name=kind, module=module, config=settings)


def _slice(hidden: str) -> tfma.SlicingSpec:
    return tfma.SlicingSpec(feature_values={HIDDEN: hidden})


class Executor(executor.Executor):
    """TFX's executor, with metrics that depend on the classes of the model."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        model = artifact_utils.get_single_instance(input_dict[specs.MODEL_KEY])
        is_old = path_utils.is_old_model_artifact(model)
        path = path_utils.serving_model_path(model.uri, is_old)
        _, state = masked_modality_eval.exported_settings(path)
        gate = GateConfig(**json.loads(exec_properties[GATE_KEY]))
        config = build_eval_config(gate, state)
        evaluation = artifact_utils.get_single_uri(output_dict[specs.EVALUATION_KEY])
        labels = "".join(f"{name}\n" for name in state.classes)
        io_utils.write_string_file(os.path.join(evaluation, LABELS_FILE), labels)
        properties = {
            specs.EVAL_CONFIG_KEY: proto_utils.proto_to_json(config),
            specs.MODULE_PATH_KEY: masked_modality_eval.__name__,
        }
        super().Do(input_dict, output_dict, exec_properties | properties)


class EvaluatorSpec(specs.EvaluatorSpec):
    """Inputs and outputs of TFX's Evaluator, with the executor's own parameters."""

    PARAMETERS = {
        specs.EXAMPLE_SPLITS_KEY: ExecutionParameter(type=str),
        GATE_KEY: ExecutionParameter(type=str),
        CODE_KEY: ExecutionParameter(type=str),
    }


class Evaluator(CustomComponent, BaseBeamComponent):
    """Component of the executor above; outputs `evaluation` and `blessing`.

    Without a `baseline_model`, the last blessed one, or with an empty channel as in the
    first run, gate.max_drop is ignored. `example_splits` and `gate` are JSON.
    """

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)


def evaluation_summary(evaluation_uri: str) -> dict:
    """Returns the numbers of an evaluation, ready for JSON; None if undefined.

    Returns:
        "rows", "accuracy", "log_loss" and "auc" with nothing masked; "hidden":
        branch -> "accuracy" and "log_loss" without it; "present": branches of a
        row, such as "text+image" -> "rows" and "accuracy"; "per_class": class ->
        "rows", "precision", "recall" and "auc"; "confusion": true class -> predicted
        class, "" for none -> rows, or None in multi-label tasks; "baseline":
        "accuracy", "log_loss" and "auc" of the last blessed model, or None.

        In regression "r2", "rmse" and "mae" are in the place of these metrics,
        "per_class" is empty and "confusion" is None.
    """
    models, labels = _read(evaluation_uri), _labels(evaluation_uri)
    candidate = tfma.CANDIDATE_KEY if tfma.BASELINE_KEY in models else ""
    masked, present = models[candidate][HIDDEN], models[candidate][PRESENT]
    full = masked.pop(NOTHING, {(ROWS, None): 0})
    baseline = models[tfma.BASELINE_KEY][HIDDEN][NOTHING]
    overall, of_hidden, of_present = _CLASS_NAMES if labels else _NUMBER_NAMES
    return {
        **_pick(full, (ROWS, *overall)),
        "hidden": {
            branch: _pick(values, of_hidden)
            for branch, values in sorted(masked.items())
        },
        "present": {
            names: _pick(values, (ROWS, *of_present))
            for names, values in sorted(present.items())
        },
        "per_class": {
            label: _pick(full, (ROWS, PRECISION, RECALL, AUC), i)
            for i, label in enumerate(labels)
        },
        "confusion": _confusion(full, labels),
        "baseline": _pick(baseline, overall) if baseline else None,
    }


def _pick(values: dict, names: tuple[str, ...], class_id: int | None = None) -> dict:
    return {name: values.get((name, class_id)) for name in names}


def _read(uri: str) -> dict[str, dict[str, dict[str, dict]]]:
    """Returns model -> slicing feature -> its value -> (metric, class id) -> number."""
    result = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for part in tfma.load_metrics(uri):
        (slice_key,) = part.slice_key.single_slice_keys
        for metric in part.metric_keys_and_values:
            key = metric.key
            class_id = key.sub_key.class_id.value if key.HasField("sub_key") else None
            if not key.is_diff:
                slices = result[key.model_name][slice_key.column]
                values = slices[slice_key.bytes_value.decode()]
                values[key.name, class_id] = _plain(key.name, metric.value)
    return result


def _plain(name: str, value):
    """Returns a number, None for NaN, or (true, predicted, rows) of a matrix."""
    if name == _CONFUSION:
        (matrix,) = value.multi_class_confusion_matrix_at_thresholds.matrices
        return [
            (e.actual_class_id, e.predicted_class_id, int(e.num_weighted_examples))
            for e in matrix.entries
        ]
    number = value.double_value.value
    if math.isnan(number):
        return None
    return int(number) if name == ROWS else number


def _confusion(values: dict, labels: list[str]) -> dict[str, dict[str, int]] | None:
    if (_CONFUSION, None) not in values:
        return None
    names, result = [*labels, ""], defaultdict(dict)
    for true, predicted, rows in values[_CONFUSION, None]:
        result[names[true]][names[predicted]] = rows
    return dict(result)


def _labels(uri: str) -> list[str]:
    text = io_utils.read_string_file(os.path.join(uri, LABELS_FILE))
    return text.removesuffix("\n").split("\n") if text else []


def rejection_reasons(evaluation_uri: str) -> list[str]:
    """Returns the reasons why a model is not blessed; none if it is."""
    result = tfma.load_validation_result(evaluation_uri)
    if result.missing_slices:
        return ["there are no test rows to measure the model on"]
    summary = evaluation_summary(evaluation_uri)
    score = score_text_of(summary)
    if summary[score.key] is None:
        return [f"{score.name} is undefined, as all test labels are equal"]
    reasons = []
    for part in result.metric_validations_per_slice:
        (slice_key,) = part.slice_key.single_slice_keys
        hidden = slice_key.bytes_value.decode()
        reasons += [_reason(hidden, f, summary, score) for f in part.failures]
    return sorted(reasons)


def _reason(hidden: str, failure, summary: dict, score: ScoreText) -> str:
    value, limit = failure.metric_value.double_value.value, failure.metric_threshold
    if failure.metric_key.is_diff:
        drop = -limit.change_threshold.absolute.value
        return (
            f"{score.name} {summary[score.key]:.4g} is {-value:.4g} below the last "
            f"blessed model's {summary['baseline'][score.key]:.4g}, more than "
            f"gate.max_drop={drop:.4g}"
        )
    minimum = limit.value_threshold.lower_bound.value
    name = score.name if hidden == NOTHING else f"{score.name} without {hidden}"
    return f"{name} {value:.4g} is below gate.{_minimum(score.key, hidden)}={minimum:g}"
