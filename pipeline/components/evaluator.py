"""Evaluator: TFX component that measures a model and decides whether it is pushed."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence

import tensorflow_model_analysis as tfma
from tfx.components.evaluator import executor
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import artifact_utils
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ExecutionParameter
from tfx.utils import io_utils, path_utils, proto_utils

from mmkeras.modalities.preprocessing_state import MULTILABEL, PreprocessingState
from mmkeras.schema import LABELS_FILE, PRESENT
from pipeline.components import masked_modality_eval, per_class_metrics
from pipeline.components.custom_component import CustomComponent
from pipeline.components.masked_modality_eval import (
    CHOICE,
    HIDDEN,
    NOTHING,
    PREDICTED,
    SCORES,
)
from pipeline.components.per_class_metrics import AUC, PRECISION, RECALL, ROWS
from pipeline.settings import GateConfig

GATE_KEY, CODE_KEY = "gate", "code"  # execution properties besides the stock ones

_ACCURACY, _LOG_LOSS, _CONFUSION = "accuracy", "log_loss", "confusion"
# Tolerance for the rounding error of a difference of max_drop.
_ROUNDING = 1e-9


def build_eval_config(gate: GateConfig, state: PreprocessingState) -> tfma.EvalConfig:
    """Builds TFMA's configuration of metrics, slices and thresholds.

    Accuracy is the share of rows whose predicted classes are exactly the label's. Only
    accuracy has thresholds, on all rows and with each branch masked.
    """
    slices = (NOTHING, *masked_modality_eval.hideable(state))
    one_label = state.task != MULTILABEL
    entropy = "CategoricalCrossEntropy" if one_label else "BinaryCrossEntropy"
    classes = {"module": per_class_metrics.__name__, "classes": len(state.classes)}
    metrics = [
        (PREDICTED, _accuracy(gate, slices)),
        (PREDICTED, _metric("ExampleCount", ROWS)),
        (SCORES, _metric(entropy, _LOG_LOSS)),
        ("", _metric("ByClass", "by_class", **classes)),
    ]
    if one_label:
        confusion = _metric("MultiClassConfusionMatrixAtThresholds", _CONFUSION)
        metrics.append((CHOICE, confusion))
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


def _accuracy(gate: GateConfig, slices: Sequence[str]) -> tfma.MetricConfig:
    accuracy = _metric("ExactMatch", _ACCURACY)
    for hidden in slices:
        limit = accuracy.per_slice_thresholds.add(slicing_specs=[_slice(hidden)])
        is_full = hidden == NOTHING
        minimum = gate.min_accuracy if is_full else gate.min_accuracy_hidden
        limit.threshold.value_threshold.lower_bound.value = minimum
        if is_full:
            change = limit.threshold.change_threshold
            change.direction = tfma.MetricDirection.HIGHER_IS_BETTER
            change.absolute.value = -gate.max_drop - _ROUNDING
    return accuracy


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
    """
    models, labels = _read(evaluation_uri), _labels(evaluation_uri)
    candidate = tfma.CANDIDATE_KEY if tfma.BASELINE_KEY in models else ""
    masked, present = models[candidate][HIDDEN], models[candidate][PRESENT]
    full = masked.pop(NOTHING, {(ROWS, None): 0})
    baseline = models[tfma.BASELINE_KEY][HIDDEN][NOTHING]
    return {
        **_pick(full, (ROWS, _ACCURACY, _LOG_LOSS, AUC)),
        "hidden": {
            branch: _pick(values, (_ACCURACY, _LOG_LOSS))
            for branch, values in sorted(masked.items())
        },
        "present": {
            names: _pick(values, (ROWS, _ACCURACY))
            for names, values in sorted(present.items())
        },
        "per_class": {
            label: _pick(full, (ROWS, PRECISION, RECALL, AUC), i)
            for i, label in enumerate(labels)
        },
        "confusion": _confusion(full, labels),
        "baseline": _pick(baseline, (_ACCURACY, _LOG_LOSS, AUC)) if baseline else None,
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
    return text.removesuffix("\n").split("\n")


def rejection_reasons(evaluation_uri: str) -> list[str]:
    """Returns the reasons why a model is not blessed; none if it is."""
    result = tfma.load_validation_result(evaluation_uri)
    if result.missing_slices:
        return ["there are no test rows to measure the model on"]
    reasons = []
    for part in result.metric_validations_per_slice:
        (slice_key,) = part.slice_key.single_slice_keys
        hidden = slice_key.bytes_value.decode()
        reasons += [_reason(hidden, f, evaluation_uri) for f in part.failures]
    return sorted(reasons)


def _reason(hidden: str, failure, uri: str) -> str:
    share, limit = failure.metric_value.double_value.value, failure.metric_threshold
    if failure.metric_key.is_diff:
        summary = evaluation_summary(uri)
        drop = -limit.change_threshold.absolute.value
        return (
            f"accuracy {summary[_ACCURACY]:.4g} is {-share:.4g} below the last blessed "
            f"model's {summary['baseline'][_ACCURACY]:.4g}, more than "
            f"gate.max_drop={drop:.4g}"
        )
    minimum = limit.value_threshold.lower_bound.value
    if hidden == NOTHING:
        return f"accuracy {share:.4g} is below gate.min_accuracy={minimum:g}"
    return (
        f"accuracy without {hidden} {share:.4g} is below "
        f"gate.min_accuracy_hidden={minimum:g}"
    )
