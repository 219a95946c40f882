"""Predict API: named tensors to named tensors.

Source: TensorFlow Serving 2.16.1 (predict_util.cc) and TensorFlow 2.16
(saved_model/util.cc), for the checks and the texts of errors.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
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
    signature = find_signature(servable, name)
    _check_names(signature, request.inputs)
    arrays = {
        alias: _decode(alias, request.inputs[alias], max_tensor_bytes)
        for alias in sorted(request.inputs)
        if alias in signature.inputs
    }
    outputs = run_signature(
        servable, signature, arrays, deadline, request.output_filter
    )
    response = predict_pb2.PredictResponse(
        model_spec=response_spec(servable, request.model_spec, name)
    )
    for alias, array in outputs.items():
        response.outputs[alias].CopyFrom(to_proto(array))
    return response


def find_signature(servable: Servable, name: str) -> SignatureDef:
    """Returns the signature of that name.

    Raises:
        ServingError: There is none, or it is of another method than TF Serving knows.
    """
    signature = servable.signatures.get(name)
    if signature is None:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    if signature.method_name not in _METHODS:
        raise internal(
            "Expected prediction signature method_name to be one of "
            f"{{{', '.join(_METHODS)}}}. Was: {signature.method_name}"
        )
    return signature


def run_signature(
    servable: Servable,
    signature: SignatureDef,
    inputs: Mapping[str, np.ndarray],
    deadline: Deadline,
    output_filter: Iterable[str] = (),
) -> dict[str, np.ndarray]:
    """Runs a signature; returns {output: array}.

    Args:
        servable: Model version to run.
        signature: One of its signatures.
        inputs: {input: array}; the signature's defaults replace missing ones.
        deadline: Deadline of the request.
        output_filter: Names of outputs; empty: all.

    Raises:
        ServingError: With the code and text of TensorFlow Serving.
    """
    feeds, defaults = {}, signature.defaults
    for alias in sorted(signature.inputs):
        name = signature.inputs[alias].name
        if alias in inputs:
            feeds[name] = inputs[alias]
        else:
            feeds[name] = _decode(alias, defaults[alias], 2**31)
    aliases = _select_outputs(signature, output_filter)
    fetches = [signature.outputs[alias].name for alias in aliases]
    arrays = servable.run(feeds, fetches, deadline, "Predict")
    return dict(zip(aliases, arrays, strict=True))


def response_spec(
    servable: Servable, request_spec: model_pb2.ModelSpec, signature: str
) -> model_pb2.ModelSpec:
    """Returns the ModelSpec of a response: version and signature that were run."""
    spec = model_pb2.ModelSpec(name=request_spec.name, signature_name=signature)
    spec.version.value = servable.version
    return spec


def _check_names(signature: SignatureDef, inputs: Iterable[str]) -> None:
    names, known = set(inputs), set(signature.inputs)
    if not 0 <= len(known) - len(names) <= len(signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(names)}!={len(known)} "
            f"len({_format_set(names)}) != len({_format_set(known)}). "
            f"Sent extra: {_format_set(names - known)}. "
            f"Missing but required: {_format_set(known - names)}."
        )
    for alias in sorted(known - names - set(signature.defaults)):
        raise invalid_argument(
            f"Signature input alias: {alias}(feed name: "
            f"{signature.inputs[alias].name}) not found in request and no default "
            f"value provided. Inputs expected to be in the request "
            f"{_format_set(names)}, or default input alias set: "
            f"{','.join(sorted(signature.defaults))}"
        )


def _decode(alias: str, proto: TensorProto, max_bytes: int) -> np.ndarray:
    try:
        return to_array(proto, max_bytes)
    except ValueError:
        raise invalid_argument(f"tensor parsing error: {alias}") from None


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
