"""The stock Evaluator for our models: what it measures, what passes, and why not."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict

import tensorflow_model_analysis as tfma
from tfx import types
from tfx.components.evaluator import executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types import standard_component_specs as specs
from tfx.types.component_spec import ExecutionParameter
from tfx.utils import io_utils, json_utils, path_utils, proto_utils

from mmkeras.modalities.preprocessing_state import MULTILABEL, PreprocessingState
from mmkeras.schema import LABELS_FILE, PRESENT, TEST
from pipeline.components import masked_modality_eval, per_class_metrics
from pipeline.components.masked_modality_eval import (
    ANSWER,
    CHOICE,
    HIDDEN,
    NOTHING,
    SCORES,
)
from pipeline.components.per_class_metrics import AUC, PRECISION, RECALL, ROWS
from pipeline.settings import GateConfig, PipelineConfig

GATE_KEY, CODE_KEY = "gate", "code"  # execution properties, beside the stock ones

_ACCURACY, _LOG_LOSS, _CONFUSION = "accuracy", "log_loss", "confusion"
# Two shares that are max_drop apart may differ by a rounding error more.
_ROUNDING = 1e-9


# What is measured -------------------------------------------------------------


def build_eval_config(gate: GateConfig, state: PreprocessingState) -> tfma.EvalConfig:
    """Builds what TFMA measures, on which rows, and what a model must reach.

    Accuracy is the share of rows whose answer names every class of the label and no
    other. It alone has thresholds, on all rows and on those without each modality.
    """
    shown = (NOTHING, *masked_modality_eval.hideable(state))
    one_label = state.task != MULTILABEL
    entropy = "CategoricalCrossEntropy" if one_label else "BinaryCrossEntropy"
    classes = {"module": per_class_metrics.__name__, "classes": len(state.classes)}
    measured = [
        (ANSWER, _accuracy(gate, shown)),
        (ANSWER, _metric("ExampleCount", ROWS)),
        (SCORES, _metric(entropy, _LOG_LOSS)),
        ("", _metric("ByClass", "by_class", **classes)),
    ]
    if one_label:
        confusion = _metric("MultiClassConfusionMatrixAtThresholds", _CONFUSION)
        measured.append((CHOICE, confusion))
    config = tfma.EvalConfig(
        model_specs=[tfma.ModelSpec()],
        slicing_specs=[
            *map(_slice, shown),
            tfma.SlicingSpec(feature_keys=[PRESENT]),
        ],
        metrics_specs=[
            tfma.MetricsSpec(output_names=[output] if output else [], metrics=[metric])
            for output, metric in measured
        ],
    )
    config.options.include_default_metrics.value = False
    return config


def _accuracy(gate: GateConfig, shown: Sequence[str]) -> tfma.MetricConfig:
    accuracy = _metric("ExactMatch", _ACCURACY)
    for what in shown:
        limit = accuracy.per_slice_thresholds.add(slicing_specs=[_slice(what)])
        least = gate.min_accuracy if what == NOTHING else gate.min_accuracy_hidden
        limit.threshold.value_threshold.lower_bound.value = least
        if what == NOTHING:
            change = limit.threshold.change_threshold
            change.direction = tfma.MetricDirection.HIGHER_IS_BETTER
            change.absolute.value = -gate.max_drop - _ROUNDING
    return accuracy


def _metric(kind: str, name: str, module: str = "", **settings) -> tfma.MetricConfig:
    settings = json.dumps({"name": name, **settings})
    return tfma.MetricConfig(class_name=kind, module=module, config=settings)


def _slice(what: str) -> tfma.SlicingSpec:
    return tfma.SlicingSpec(feature_values={HIDDEN: what})


# The component ----------------------------------------------------------------


class Executor(executor.Executor):
    """The stock executor, told what to measure once the model is there to be read."""

    def Do(self, input_dict, output_dict, exec_properties):
        model = artifact_utils.get_single_instance(input_dict[specs.MODEL_KEY])
        is_old = path_utils.is_old_model_artifact(model)
        path = path_utils.serving_model_path(model.uri, is_old)
        state = masked_modality_eval.exported_analysis(path)
        gate = GateConfig(**json.loads(exec_properties[GATE_KEY]))
        config = build_eval_config(gate, state)
        evaluation = artifact_utils.get_single_uri(output_dict[specs.EVALUATION_KEY])
        labels = "".join(f"{name}\n" for name in state.classes)
        io_utils.write_string_file(os.path.join(evaluation, LABELS_FILE), labels)
        told = {
            specs.EVAL_CONFIG_KEY: proto_utils.proto_to_json(config),
            specs.MODULE_PATH_KEY: masked_modality_eval.__name__,
        }
        super().Do(input_dict, output_dict, exec_properties | told)


class EvaluatorSpec(specs.EvaluatorSpec):
    """The stock inputs and outputs, with the properties that our executor reads."""

    PARAMETERS = {
        specs.EXAMPLE_SPLITS_KEY: ExecutionParameter(type=str),
        GATE_KEY: ExecutionParameter(type=str),
        CODE_KEY: ExecutionParameter(type=str),
    }


class Evaluator(base_beam_component.BaseBeamComponent):
    """Measures a model on the test rows; outputs `evaluation` and `blessing`."""

    SPEC_CLASS = EvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)


def build_evaluator(
    examples: types.BaseChannel,
    model: types.BaseChannel,
    baseline_model: types.BaseChannel | None,
    config: PipelineConfig,
    code: str,
) -> Evaluator:
    """Builds the component.

    Args:
        examples: Rows, with a split "test".
        model: The candidate.
        baseline_model: The last blessed model. With None, or an empty channel as on
            the first run, gate.max_drop does not count.
        config: Settings, of which `gate` counts.
        code: Hash of the code, part of the cache key.
    """
    return Evaluator(
        EvaluatorSpec(
            examples=examples,
            model=model,
            baseline_model=baseline_model,
            example_splits=json_utils.dumps([TEST]),
            gate=json.dumps(asdict(config.gate)),
            code=code,
            evaluation=types.Channel(type=standard_artifacts.ModelEvaluation),
            blessing=types.Channel(type=standard_artifacts.ModelBlessing),
        )
    )


# What came out ----------------------------------------------------------------


def evaluation_summary(evaluation_uri: str) -> dict:
    """Reads the numbers of an evaluation back, ready for JSON.

    Returns:
        "rows", "accuracy", "log_loss" and "auc" with nothing hidden; "hidden":
        modality -> "accuracy" and "log_loss" without it; "present": what rows have,
        as in "text+image", -> their "rows" and "accuracy"; "per_class": class ->
        "rows", "precision", "recall" and "auc"; "confusion": true class -> answered
        class -> rows, where there are any, "" for none of the classes, and None in
        multi-label tasks; "baseline": "accuracy", "log_loss" and "auc" of the last
        blessed model, or None. Numbers are None where the rows cannot tell.
    """
    measured = _read(evaluation_uri)
    candidate = tfma.CANDIDATE_KEY if tfma.BASELINE_KEY in measured else ""
    without, present = measured[candidate][HIDDEN], measured[candidate][PRESENT]
    whole = without.pop(NOTHING, {(ROWS, None): 0})
    old = measured[tfma.BASELINE_KEY][HIDDEN][NOTHING]
    return {
        **_pick(whole, (ROWS, _ACCURACY, _LOG_LOSS, AUC)),
        "hidden": {
            modality: _pick(found, (_ACCURACY, _LOG_LOSS))
            for modality, found in sorted(without.items())
        },
        "present": {
            names: _pick(found, (ROWS, _ACCURACY))
            for names, found in sorted(present.items())
        },
        "per_class": {
            label: _pick(whole, (ROWS, PRECISION, RECALL, AUC), i)
            for i, label in enumerate(_labels(evaluation_uri))
        },
        "confusion": _confusion(whole, _labels(evaluation_uri)),
        "baseline": _pick(old, (_ACCURACY, _LOG_LOSS, AUC)) if old else None,
    }


def _pick(found: dict, names: tuple[str, ...], of_class: int | None = None) -> dict:
    return {name: found.get((name, of_class)) for name in names}


def _read(uri: str) -> dict[str, dict[str, dict[str, dict]]]:
    """Model -> feature sliced by -> its value -> (metric, class number) -> value."""
    measured = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for part in tfma.load_metrics(uri):
        (by,) = part.slice_key.single_slice_keys
        for metric in part.metric_keys_and_values:
            key = metric.key
            of_class = key.sub_key.class_id.value if key.HasField("sub_key") else None
            if not key.is_diff:
                found = measured[key.model_name][by.column][by.bytes_value.decode()]
                found[key.name, of_class] = _plain(key.name, metric.value)
    return measured


def _plain(name: str, value):
    """A number, None for NaN, or (true, answered, rows) of a confusion matrix."""
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


def _confusion(found: dict, labels: list[str]) -> dict[str, dict[str, int]] | None:
    if (_CONFUSION, None) not in found:
        return None
    names, result = [*labels, ""], defaultdict(dict)
    for true, answered, rows in found[_CONFUSION, None]:
        result[names[true]][names[answered]] = rows
    return dict(result)


def _labels(uri: str) -> list[str]:
    text = io_utils.read_string_file(os.path.join(uri, LABELS_FILE))
    return text.removesuffix("\n").split("\n")


def rejection_reasons(evaluation_uri: str) -> list[str]:
    """Says line by line why a model is not blessed; nothing where it is."""
    result = tfma.load_validation_result(evaluation_uri)
    if result.missing_slices:
        return ["there are no test rows to measure the model on"]
    reasons = []
    for part in result.metric_validations_per_slice:
        (by,) = part.slice_key.single_slice_keys
        what = by.bytes_value.decode()
        reasons += [_reason(what, f, evaluation_uri) for f in part.failures]
    return sorted(reasons)


def _reason(what: str, failure, uri: str) -> str:
    share, limit = failure.metric_value.double_value.value, failure.metric_threshold
    if failure.metric_key.is_diff:
        summary = evaluation_summary(uri)
        drop = -limit.change_threshold.absolute.value
        return (
            f"accuracy {summary[_ACCURACY]:.4g} is {-share:.4g} below the last blessed "
            f"model's {summary['baseline'][_ACCURACY]:.4g}, more than "
            f"gate.max_drop={drop:.4g}"
        )
    least = limit.value_threshold.lower_bound.value
    if what == NOTHING:
        return f"accuracy {share:.4g} is below gate.min_accuracy={least:g}"
    return (
        f"accuracy without {what} {share:.4g} is below "
        f"gate.min_accuracy_hidden={least:g}"
    )
