"""Classify, Regress and MultiInference APIs: tf.Examples to classes or values.

Source: TensorFlow Serving 2.16.1 (classifier.cc, regressor.cc, multi_inference.cc,
util.cc), for the checks and the texts of errors. As there, a signature's method name is
not checked, so that signatures of TensorFlow 2, which are all `predict`, can be run.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from mmkeras.schema import SERVING_DEFAULT
from serving.server.deadline import Deadline
from serving.server.engine.predict import CLASSIFY_METHOD, REGRESS_METHOD, response_spec
from serving.server.engine.servable import Servable
from serving.server.errors import invalid_argument, unimplemented

_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"
# Each serialized example is held twice: in an array, and in TensorFlow's tensor.
_COPIES = 2


def classify(
    servable: Servable,
    request: classification_pb2.ClassificationRequest,
    deadline: Deadline,
) -> classification_pb2.ClassificationResponse:
    """Returns the classes and scores of each example.

    Raises:
        ServingError: With the code and text of TensorFlow Serving.
    """
    result = _run_single(servable, request, CLASSIFY_METHOD, deadline)
    return classification_pb2.ClassificationResponse(
        model_spec=result.model_spec, result=result.classification_result
    )


def regress(
    servable: Servable, request: regression_pb2.RegressionRequest, deadline: Deadline
) -> regression_pb2.RegressionResponse:
    """Returns the value of each example.

    Raises:
        ServingError: With the code and text of TensorFlow Serving.
    """
    result = _run_single(servable, request, REGRESS_METHOD, deadline)
    return regression_pb2.RegressionResponse(
        model_spec=result.model_spec, result=result.regression_result
    )


def multi_inference(
    servable: Servable, request: inference_pb2.MultiInferenceRequest, deadline: Deadline
) -> inference_pb2.MultiInferenceResponse:
    """Returns the results of several signatures on the same examples, in one run.

    Raises:
        ServingError: With the code and text of TensorFlow Serving.
    """
    tasks = _tasks(servable, request)
    if not tasks:
        raise invalid_argument("Inference request must have at least one task.")
    results = _results(servable, tasks, request.input, deadline, "MultiInference")
    return inference_pb2.MultiInferenceResponse(results=results)


def count_examples(data: input_pb2.Input) -> int:
    """Returns the number of examples."""
    return len(_examples(data))


def serialized_bytes(data: input_pb2.Input) -> int:
    """Returns the bytes of memory that all copies of the serialized examples take.

    The context is part of each example. What the graph makes of them is not counted.
    """
    context_bytes = data.example_list_with_context.context.ByteSize()
    return _COPIES * sum(context_bytes + e.ByteSize() for e in _examples(data))


class _Task(NamedTuple):
    """Signature to run as a method, with the tensors of its input and outputs."""

    model_spec: model_pb2.ModelSpec
    name: str
    method: str
    input_tensor: str
    outputs: dict[str, str]


def _run_single(servable, request, method: str, deadline: Deadline):
    name = request.model_spec.signature_name or SERVING_DEFAULT
    signature = servable.signatures.get(name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name}")
    task = _build_task(request.model_spec, name, method, signature)
    api = "Classify" if method == CLASSIFY_METHOD else "Regress"
    return _results(servable, [task], request.input, deadline, api)[0]


def _tasks(servable, request) -> list[_Task]:
    """Returns the tasks, checked to have one model and several signatures."""
    tasks: list[_Task] = []
    for task in request.tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if tasks and tasks[0].model_spec.name != spec.name:
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model "
                "name."
            )
        name = spec.signature_name or SERVING_DEFAULT
        if any(task.name == name for task in tasks):
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        signature = servable.signatures.get(name)
        if signature is None:
            raise invalid_argument(
                f"Requested signature not found in model graph: {name}"
            )
        if task.method_name not in (CLASSIFY_METHOD, REGRESS_METHOD):
            raise unimplemented(
                f"Unsupported signature method_name: {task.method_name}"
            )
        tasks.append(_build_task(spec, name, task.method_name, signature))
    return tasks


def _build_task(spec, name: str, method: str, signature) -> _Task:
    classifies = method == CLASSIFY_METHOD
    kind = "classification" if classifies else "regression"
    keys = (_CLASSES, _SCORES) if classifies else (_OUTPUTS,)
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if not 1 <= (count := len(signature.outputs)) <= len(keys):
        text = f"Expected one or two output Tensors, found {count}"
        raise invalid_argument(text if classifies else "Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        raise invalid_argument(f"No {kind} inputs found in SignatureDef: {signature}")
    outputs = {k: signature.outputs[k].name for k in keys if k in signature.outputs}
    if not outputs:
        raise invalid_argument(
            "Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}". Signature was: {signature}'
            if classifies
            else f"No regression outputs found in SignatureDef: {signature}"
        )
    return _Task(spec, name, method, signature.inputs[_INPUTS].name, outputs)


def _results(servable, tasks: list[_Task], data, deadline: Deadline, api: str):
    """Runs all tasks at once; returns one InferenceResult per task."""
    inputs = sorted({task.input_tensor for task in tasks})
    outputs = sorted({tensor for task in tasks for tensor in task.outputs.values()})
    servable.check_rows(count_examples(data), inputs, outputs)
    examples = serialize_examples(data)
    results = servable.run(dict.fromkeys(inputs, examples), outputs, deadline, api)
    arrays = dict(zip(outputs, results, strict=True))
    return [_to_result(servable, task, arrays, len(examples)) for task in tasks]


def _to_result(servable, task: _Task, arrays, count: int):
    outputs = {key: arrays[tensor] for key, tensor in task.outputs.items()}
    if task.method == CLASSIFY_METHOD:
        fields = {"classification_result": to_classification_result(outputs, count)}
    else:
        values = to_regression_result(outputs[_OUTPUTS], count)
        fields = {"regression_result": values}
    spec = response_spec(servable, task.model_spec, task.name)
    return inference_pb2.InferenceResult(model_spec=spec, **fields)


def serialize_examples(data: input_pb2.Input) -> np.ndarray:
    """Returns the examples as bytes, each one after the features of the context."""
    if not (examples := _examples(data)):
        raise invalid_argument("Input is empty.")
    context = data.example_list_with_context.context.SerializeToString()
    array = np.empty(len(examples), object)
    array[:] = [context + example.SerializeToString() for example in examples]
    return array


def _examples(data: input_pb2.Input):
    kind = data.WhichOneof("kind")
    return getattr(data, kind).examples if kind else ()


def to_classification_result(arrays: dict[str, np.ndarray], count: int):
    for key, array in arrays.items():
        _check_class_output(key, array, count)
    widths = {array.shape[1] for array in arrays.values()}
    if len(widths) > 1:
        raise invalid_argument(
            "Tensors class and score should match in dim_size(1). Got "
            f"{arrays[_CLASSES].shape[1]} vs. {arrays[_SCORES].shape[1]}"
        )
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        classes = result.classifications.add().classes
        for column in range(*widths):
            class_message = classes.add()
            if _CLASSES in arrays:
                class_message.label = arrays[_CLASSES][row, column]
            if _SCORES in arrays:
                class_message.score = arrays[_SCORES][row, column]
    return result


def _check_class_output(key: str, array: np.ndarray, count: int) -> None:
    if array.ndim != 2:
        raise invalid_argument(
            f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}"
        )
    expected = "DT_STRING" if key == _CLASSES else "DT_FLOAT"
    if (dtype := _type(array)) != expected:
        raise invalid_argument(f"Expected {key} Tensor of {expected}. Got: {dtype}")
    if len(array) != count:
        raise invalid_argument(
            f"Expected {key} output batch size of {count}. Got: {len(array)}"
        )


def to_regression_result(array: np.ndarray, count: int):
    if array.ndim != 1 and array.shape[1:] != (1,):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            f"but got {_shape(array)}"
        )
    if len(array) != count:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {count} vs. "
            f"{len(array)}"
        )
    if (dtype := _type(array)) != "DT_FLOAT":
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {dtype}")
    regressions = [{"value": value} for value in array.ravel().tolist()]
    return regression_pb2.RegressionResult(regressions=regressions)


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _type(array: np.ndarray) -> str:
    return types_pb2.DataType.Name(tf.as_dtype(array.dtype).as_datatype_enum)
