"""Classify, Regress and MultiInference APIs: tf.Examples to classes or values.

Source: TensorFlow Serving 2.16.1 (classifier.cc, regressor.cc, multi_inference.cc,
util.cc), for the checks and the texts of errors. As there, a signature's method name is
not checked, so that signatures of TensorFlow 2, which are all `predict`, can be run.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2
from tensorflow_serving.apis.input_pb2 import Input
from tensorflow_serving.apis.model_pb2 import ModelSpec

from mmkeras.schema import SERVING_DEFAULT
from serving.server.deadline import Deadline
from serving.server.engine.predict import CLASSIFY_METHOD, REGRESS_METHOD, response_spec
from serving.server.engine.servable import Servable
from serving.server.errors import invalid_argument, unimplemented

_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


def classify(
    servable: Servable,
    request: classification_pb2.ClassificationRequest,
    deadline: Deadline,
) -> classification_pb2.ClassificationResponse:
    """Returns the classes and scores of each example."""
    spec, result = _run_single(servable, request, CLASSIFY_METHOD, deadline)
    return classification_pb2.ClassificationResponse(model_spec=spec, result=result)


def regress(
    servable: Servable, request: regression_pb2.RegressionRequest, deadline: Deadline
) -> regression_pb2.RegressionResponse:
    """Returns the value of each example."""
    spec, result = _run_single(servable, request, REGRESS_METHOD, deadline)
    return regression_pb2.RegressionResponse(model_spec=spec, result=result)


def multi_inference(
    servable: Servable, request: inference_pb2.MultiInferenceRequest, deadline: Deadline
) -> inference_pb2.MultiInferenceResponse:
    """Returns the results of several signatures on the same examples, in one run."""
    tasks: dict[str, _Task] = {}
    for task in request.tasks:
        spec, method = task.model_spec, task.method_name
        name = spec.signature_name or SERVING_DEFAULT
        if not spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if spec.name != request.tasks[0].model_spec.name:
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model "
                "name."
            )
        if name in tasks:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        if name not in servable.signatures:
            text = f"Requested signature not found in model graph: {name}"
            raise invalid_argument(text)
        if method not in (CLASSIFY_METHOD, REGRESS_METHOD):
            raise unimplemented(f"Unsupported signature method_name: {method}")
        tasks[name] = _build_task(servable, spec, name, method)
    if not tasks:
        raise invalid_argument("Inference request must have at least one task.")
    response = inference_pb2.MultiInferenceResponse()
    api = "MultiInference"
    for spec, result in _run(servable, tasks.values(), request.input, deadline, api):
        is_classes = isinstance(result, classification_pb2.ClassificationResult)
        field = "classification_result" if is_classes else "regression_result"
        response.results.add(model_spec=spec, **{field: result})
    return response


def count_examples(data: Input) -> int:
    """Returns the number of examples."""
    return len(_examples(data))


def serialized_bytes(data: Input) -> int:
    """Returns the memory of the serialized examples, each with the context.

    There are two copies: in an array, and in TensorFlow's tensor. What the graph makes
    of them is not counted.
    """
    context_bytes = data.example_list_with_context.context.ByteSize()
    return 2 * sum(context_bytes + e.ByteSize() for e in _examples(data))


class _Task(NamedTuple):
    """Signature to run as a method, with the tensors of its input and outputs."""

    response_spec: ModelSpec
    method: str
    input_tensor: str
    outputs: dict[str, str]


def _run_single(servable, request, method: str, deadline: Deadline):
    """Returns the ModelSpec and the result of one signature."""
    name = request.model_spec.signature_name or SERVING_DEFAULT
    if name not in servable.signatures:
        raise invalid_argument(f"No signature was found with the name: {name}")
    task = _build_task(servable, request.model_spec, name, method)
    api = "Classify" if method == CLASSIFY_METHOD else "Regress"
    return _run(servable, [task], request.input, deadline, api)[0]


def _build_task(servable, request_spec, name: str, method: str) -> _Task:
    signature, classifies = servable.signatures[name], method == CLASSIFY_METHOD
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
    spec = response_spec(servable, request_spec, name)
    return _Task(spec, method, signature.inputs[_INPUTS].name, outputs)


def _run(servable, tasks: Collection[_Task], data: Input, deadline: Deadline, api: str):
    """Runs all tasks at once; returns the ModelSpec and the result of each."""
    inputs = sorted({task.input_tensor for task in tasks})
    tensors = sorted({tensor for task in tasks for tensor in task.outputs.values()})
    servable.check_rows(count_examples(data), inputs, tensors)
    examples = serialize_examples(data)
    arrays = servable.run(dict.fromkeys(inputs, examples), tensors, deadline, api)
    by_tensor, results = dict(zip(tensors, arrays, strict=True)), []
    for task in tasks:
        outputs = {key: by_tensor[tensor] for key, tensor in task.outputs.items()}
        if task.method == CLASSIFY_METHOD:
            result = to_classification_result(outputs, len(examples))
        else:
            result = to_regression_result(outputs[_OUTPUTS], len(examples))
        results.append((task.response_spec, result))
    return results


def serialize_examples(data: Input) -> np.ndarray:
    """Returns the examples as bytes, each one after the features of the context."""
    if not (examples := _examples(data)):
        raise invalid_argument("Input is empty.")
    context = data.example_list_with_context.context.SerializeToString()
    array = np.empty(len(examples), object)
    array[:] = [context + example.SerializeToString() for example in examples]
    return array


def _examples(data: Input):
    kind = data.WhichOneof("kind")
    return getattr(data, kind).examples if kind else ()


def to_classification_result(arrays: dict[str, np.ndarray], count: int):
    """Returns the classes of `count` examples as a message, after checks."""
    for key, array in arrays.items():
        if array.ndim != 2:
            text = "Expected Tensor shape: [batch_size num_classes] but got "
            raise invalid_argument(text + _shape(array))
        expected = "DT_STRING" if key == _CLASSES else "DT_FLOAT"
        if (dtype := _type(array)) != expected:
            raise invalid_argument(f"Expected {key} Tensor of {expected}. Got: {dtype}")
        if len(array) != count:
            raise invalid_argument(
                f"Expected {key} output batch size of {count}. Got: {len(array)}"
            )
    widths = [array.shape[1] for array in arrays.values()]  # classes, scores
    if len(set(widths)) > 1:
        raise invalid_argument(
            "Tensors class and score should match in dim_size(1). Got "
            f"{widths[0]} vs. {widths[1]}"
        )
    fields = ["label" if key == _CLASSES else "score" for key in arrays]
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        columns = zip(*(array[row].tolist() for array in arrays.values()), strict=True)
        classes = [dict(zip(fields, column, strict=True)) for column in columns]
        result.classifications.add(classes=classes)
    return result


def to_regression_result(array: np.ndarray, count: int):
    """Returns the values of `count` examples as a message, after checks."""
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
