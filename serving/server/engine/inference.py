"""Classify, Regress and MultiInference APIs: tf.Examples to classes or values.

Source: TensorFlow Serving 2.16.1 (classifier.cc, regressor.cc, multi_inference.cc,
util.cc), for the checks and the texts of errors.
"""

import numpy as np
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
from serving.server.errors import failed_precondition, invalid_argument, unimplemented

_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"
_KINDS = {CLASSIFY_METHOD: "classification", REGRESS_METHOD: "regression"}
_APIS = {CLASSIFY_METHOD: "Classify", REGRESS_METHOD: "Regress"}


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
    kind = data.WhichOneof("kind")
    return len(getattr(data, kind).examples) if kind else 0


def _run_single(servable, request, method: str, deadline: Deadline):
    name = request.model_spec.signature_name or SERVING_DEFAULT
    signature = servable.signatures.get(name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name}")
    task = _InferenceTask(request.model_spec, name, method, signature)
    return _results(servable, [task], request.input, deadline, _APIS[method])[0]


class _InferenceTask:
    """Signature of a request, with the input and output tensors to run."""

    def __init__(
        self, model_spec: model_pb2.ModelSpec, name: str, method: str, signature
    ):
        self.model_spec, self.name, self.method = model_spec, name, method
        _check(signature, method)
        self.input_tensor: str = signature.inputs[_INPUTS].name
        keys = (_CLASSES, _SCORES) if method == CLASSIFY_METHOD else (_OUTPUTS,)
        self.outputs: dict[str, str] = {
            key: signature.outputs[key].name for key in keys if key in signature.outputs
        }
        if not self.outputs:
            raise _no_outputs(method, signature)


def _check(signature, method: str) -> None:
    kind = _KINDS[method]
    if signature.method_name != method:
        raise invalid_argument(
            f"Expected {kind} signature method_name to be {method}. Was: "
            f"{signature.method_name}"
        )
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    outputs = len(signature.outputs)
    if method == REGRESS_METHOD and outputs != 1:
        raise invalid_argument("Expected one output Tensor.")
    if method == CLASSIFY_METHOD and outputs not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {outputs}")
    if _INPUTS not in signature.inputs:
        raise failed_precondition(
            f"No {kind} inputs found in SignatureDef: {signature}"
        )


def _no_outputs(method: str, signature):
    if method == REGRESS_METHOD:
        return failed_precondition(
            f"No regression outputs found in SignatureDef: {signature}"
        )
    return failed_precondition(
        "Expected classification signature outputs to contain at least one of "
        f'"{_CLASSES}" or "{_SCORES}". Signature was: {signature}'
    )


def _tasks(servable, request) -> list[_InferenceTask]:
    """Returns the tasks, checked to share the input and to differ in signature."""
    tasks: list[_InferenceTask] = []
    for model_spec in request.tasks:
        spec = model_spec.model_spec
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
        if model_spec.method_name not in _KINDS:
            raise unimplemented(
                f"Unsupported signature method_name: {model_spec.method_name}"
            )
        tasks.append(_InferenceTask(spec, name, model_spec.method_name, signature))
        if tasks[-1].input_tensor != tasks[0].input_tensor:
            raise invalid_argument("Input tensor must be the same for all Signatures.")
    return tasks


def _results(servable, tasks: list[_InferenceTask], data, deadline: Deadline, api: str):
    """Runs all tasks at once; returns one InferenceResult per task."""
    input_tensor = tasks[0].input_tensor
    outputs = sorted({end for task in tasks for end in task.outputs.values()})
    servable.check_rows(count_examples(data), [input_tensor], outputs)
    examples = serialize_examples(data)
    run_outputs = servable.run({input_tensor: examples}, outputs, deadline, api)
    arrays = dict(zip(outputs, run_outputs, strict=True))
    results = []
    for task in tasks:
        task_arrays = {key: arrays[end] for key, end in task.outputs.items()}
        result = inference_pb2.InferenceResult(
            model_spec=response_spec(servable, task.model_spec, task.name)
        )
        if task.method == CLASSIFY_METHOD:
            result.classification_result.CopyFrom(
                to_classification_result(task_arrays, len(examples))
            )
        else:
            result.regression_result.CopyFrom(
                to_regression_result(task_arrays[_OUTPUTS], len(examples))
            )
        results.append(result)
    return results


def serialize_examples(data: input_pb2.Input) -> np.ndarray:
    """Returns the examples as bytes, each one after the features of the context."""
    count = count_examples(data)
    if not count:
        raise invalid_argument("Input is empty.")
    context = b""
    if data.WhichOneof("kind") == "example_list_with_context":
        context = data.example_list_with_context.context.SerializeToString()
    array = np.empty(count, object)
    listed = getattr(data, data.WhichOneof("kind")).examples
    array[:] = [context + example.SerializeToString() for example in listed]
    return array


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
    expected, name = (object, "DT_STRING") if key == _CLASSES else ("f4", "DT_FLOAT")
    if array.dtype != np.dtype(expected):
        raise invalid_argument(f"Expected {key} Tensor of {name}. Got: {_type(array)}")
    if len(array) != count:
        raise invalid_argument(
            f"Expected {key} output batch size of {count}. Got: {len(array)}"
        )


def to_regression_result(array: np.ndarray, count: int):
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            f"but got {_shape(array)}"
        )
    if len(array) != count:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {count} vs. "
            f"{len(array)}"
        )
    if array.dtype != np.float32:
        raise invalid_argument(
            f"Expected output Tensor of DT_FLOAT.  Got: {_type(array)}"
        )
    regressions = [
        regression_pb2.Regression(value=value) for value in array.ravel().tolist()
    ]
    return regression_pb2.RegressionResult(regressions=regressions)


def _shape(array: np.ndarray) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _type(array: np.ndarray) -> str:
    return "DT_STRING" if array.dtype == object else f"DT_{array.dtype.name.upper()}"
