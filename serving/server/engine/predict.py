"""Predict API: named tensors to named tensors.

Source: TensorFlow Serving 2.16.1 (predict_util.cc) and TensorFlow 2.16
(saved_model/util.cc), for the checks and the texts of errors.
"""

from collections.abc import Iterable

import numpy as np
from tensorflow_serving.apis import model_pb2, predict_pb2

from mmkeras.schema import SERVING_DEFAULT
from serving.server.deadline import Deadline
from serving.server.engine.servable import Servable
from serving.server.engine.tensors import to_array, to_proto
from serving.server.errors import failed_precondition, internal, invalid_argument

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
_METHODS = ("tensorflow/serving/predict", CLASSIFY_METHOD, REGRESS_METHOD)


def predict(
    servable: Servable,
    request: predict_pb2.PredictRequest,
    deadline: Deadline,
    max_tensor_bytes: int,
) -> predict_pb2.PredictResponse:
    """Returns the outputs of the request's signature.

    Args:
        servable: Model version to run.
        request: Tensors under the input names of the signature.
        deadline: Deadline of the request.
        max_tensor_bytes: Maximum size of one input tensor.

    Raises:
        ServingError: With the code and text of TensorFlow Serving.
    """
    name = request.model_spec.signature_name or SERVING_DEFAULT
    signature = servable.signatures.get(name)
    if signature is None:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    if signature.method_name not in _METHODS:
        raise internal(
            "Expected prediction signature method_name to be one of "
            f"{{{', '.join(_METHODS)}}}. Was: {signature.method_name}"
        )
    feeds = _feeds(signature, request, max_tensor_bytes)
    aliases = _select_outputs(signature, request.output_filter)
    fetches = [signature.outputs[alias].name for alias in aliases]
    arrays = servable.run(feeds, fetches, deadline, "Predict")
    response = predict_pb2.PredictResponse(
        model_spec=response_spec(servable, request.model_spec, name)
    )
    for alias, array in zip(aliases, arrays, strict=True):
        response.outputs[alias].CopyFrom(to_proto(array))
    return response


def response_spec(
    servable: Servable, request_spec: model_pb2.ModelSpec, signature: str
) -> model_pb2.ModelSpec:
    """Returns the ModelSpec of a response: version and signature that were run."""
    spec = model_pb2.ModelSpec(name=request_spec.name, signature_name=signature)
    spec.version.value = servable.version
    return spec


def _feeds(signature, request, max_tensor_bytes: int) -> dict[str, np.ndarray]:
    inputs, known, defaults = request.inputs, signature.inputs, signature.defaults
    if not 0 <= len(known) - len(inputs) <= len(defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(inputs)}!={len(known)} "
            f"len({_format_set(inputs)}) != len({_format_set(known)}). "
            f"Sent extra: {_format_set(set(inputs) - set(known))}. "
            f"Missing but required: {_format_set(set(known) - set(inputs))}."
        )
    feeds = {}
    for alias in sorted(known):
        name = known[alias].name
        if alias not in inputs and alias not in defaults:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {name}) not found in "
                "request and no default value provided. Inputs expected to be in the "
                f"request {_format_set(inputs)}, or default input alias set: "
                f"{','.join(sorted(defaults))}"
            )
        proto = inputs[alias] if alias in inputs else defaults[alias]
        try:
            feeds[name] = to_array(proto, max_tensor_bytes)
        except ValueError:
            raise invalid_argument(f"tensor parsing error: {alias}") from None
    return feeds


def _select_outputs(signature, names: Iterable[str]) -> list[str]:
    """Returns the requested output names, by default all."""
    aliases: list[str] = []
    for alias in names:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected "
                f"to be in the set {_format_set(signature.outputs)}."
            )
        if alias in aliases:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        aliases.append(alias)
    return aliases or sorted(signature.outputs)


def _format_set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
