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
    """Returns the outputs of the request's signature."""
    name = request.model_spec.signature_name or SERVING_DEFAULT
    signature = servable.signatures.get(name)
    if signature is None:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    if signature.method_name not in _METHODS:
        raise internal(
            "Expected prediction signature method_name to be one of "
            f"{{{', '.join(_METHODS)}}}. Was: {signature.method_name}"
        )
    _check_names(signature, request.inputs)
    inputs = {
        alias: _decode(alias, request.inputs[alias], max_tensor_bytes)
        for alias in sorted(request.inputs)
        if alias in signature.inputs
    }
    names = request.output_filter
    arrays = run_signature(servable, signature, inputs, deadline, names)
    return predict_pb2.PredictResponse(
        model_spec=response_spec(servable, request.model_spec, name),
        outputs={alias: to_proto(array) for alias, array in arrays.items()},
    )


def run_signature(
    servable: Servable,
    signature: SignatureDef,
    inputs: Mapping[str, np.ndarray],
    deadline: Deadline,
    output_filter: Iterable[str] = (),
) -> dict[str, np.ndarray]:
    """Runs a signature, with its defaults for missing inputs; returns {output: array}.

    An empty filter selects all outputs.
    """
    feeds, defaults = {}, signature.defaults
    for alias in sorted(signature.inputs):
        if (array := inputs.get(alias)) is None:
            array = _decode(alias, defaults[alias], max_bytes=2**31)
        feeds[signature.inputs[alias].name] = array
    aliases = list(output_filter)
    for i, alias in enumerate(aliases):
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected "
                f"to be in the set {_format_set(signature.outputs)}."
            )
        if alias in aliases[:i]:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
    aliases = aliases or sorted(signature.outputs)
    fetches = [signature.outputs[alias].name for alias in aliases]
    arrays = servable.run(feeds, fetches, deadline, "Predict")
    return dict(zip(aliases, arrays, strict=True))


def response_spec(
    servable: Servable, request_spec: model_pb2.ModelSpec, signature: str
) -> model_pb2.ModelSpec:
    """Returns the ModelSpec of a response: version and signature that were run."""
    version = {"value": servable.version}
    return model_pb2.ModelSpec(
        name=request_spec.name, version=version, signature_name=signature
    )


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


def _format_set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
