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

from mmkeras.evaluation.text_metrics import EXACT_MATCH, TEXT_METRICS
from mmkeras.reports.score_text import ScoreText, score_text_of
from mmkeras.schema import LABELS_FILE, PRESENT
from pipeline.components import masked_modality_eval
from pipeline.components.custom_component import CustomComponent
from pipeline.components.eval_config import (
    CONFUSION,
    LIMITED_TEXT_METRICS,
    LOG_LOSS,
    build_eval_config,
    limit_setting,
)
from pipeline.components.masked_modality_eval import HIDDEN, NOTHING
from pipeline.components.per_class_metrics import AUC, PRECISION, RECALL, ROWS
from pipeline.components.regression_metrics import MAE, R2, RMSE
from pipeline.components.text_metrics import HIGH, LOW, bound_name
from pipeline.settings import GateConfig

GATE_KEY, CODE_KEY = "gate", "code"  # execution properties besides the stock ones

_ACCURACY = "accuracy"
# Metrics on all rows, with a branch masked, and by the branches of a row.
_CLASS_NAMES = (_ACCURACY, LOG_LOSS, AUC), (_ACCURACY, LOG_LOSS), (_ACCURACY,)
_NUMBER_NAMES = ((R2, RMSE, MAE),) * 3
_TEXT_NAMES = ((*TEXT_METRICS, *map(bound_name, TEXT_METRICS)),) * 2
_TEXT_NAMES += ((EXACT_MATCH,),)


class Executor(executor.Executor):
    """TFX's executor, with metrics that depend on the classes of the model."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        model = artifact_utils.get_single_instance(input_dict[specs.MODEL_KEY])
        is_old = path_utils.is_old_model_artifact(model)
        path = path_utils.serving_model_path(model.uri, is_old)
        config, state = masked_modality_eval.exported_settings(path)
        gate = GateConfig(**json.loads(exec_properties[GATE_KEY]))
        eval_config = build_eval_config(gate, config, state)
        evaluation = artifact_utils.get_single_uri(output_dict[specs.EVALUATION_KEY])
        labels = "".join(f"{name}\n" for name in state.classes)
        io_utils.write_string_file(os.path.join(evaluation, LABELS_FILE), labels)
        properties = {
            specs.EVAL_CONFIG_KEY: proto_utils.proto_to_json(eval_config),
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
        "per_class" is empty and "confusion" is None. Of generated text these are
        `TEXT_METRICS` and the worse ends of their 95 % intervals, such as
        "exact_match_low"; "present" has "exact_match" alone.
    """
    models, labels = _read(evaluation_uri), _labels(evaluation_uri)
    candidate = tfma.CANDIDATE_KEY if tfma.BASELINE_KEY in models else ""
    masked, present = models[candidate][HIDDEN], models[candidate][PRESENT]
    full = masked.pop(NOTHING, {(ROWS, None): 0})
    baseline = models[tfma.BASELINE_KEY][HIDDEN][NOTHING]
    names = _TEXT_NAMES if (EXACT_MATCH, None) in full else _NUMBER_NAMES
    overall, of_hidden, of_present = _CLASS_NAMES if labels else names
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
    if name == CONFUSION:
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
    if (CONFUSION, None) not in values:
        return None
    names, result = [*labels, ""], defaultdict(dict)
    for true, predicted, rows in values[CONFUSION, None]:
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
    key, bounds = failure.metric_key.name, limit.value_threshold
    without = "" if hidden == NOTHING else f" without {hidden}"
    setting = f"gate.{limit_setting(key, hidden)}"
    metric = key.removesuffix(LOW).removesuffix(HIGH)
    if metric == key:
        minimum = bounds.lower_bound.value
        return f"{score.name}{without} {value:.4g} is below {setting}={minimum:g}"
    subject = f"of the 95 % interval of {LIMITED_TEXT_METRICS[metric]}{without}"
    if key.endswith(HIGH):
        maximum = bounds.upper_bound.value
        return f"the upper end {value:.4g} {subject} is above {setting}={maximum:g}"
    minimum = bounds.lower_bound.value
    return f"the lower end {value:.4g} {subject} is below {setting}={minimum:g}"
