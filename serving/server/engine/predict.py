"""Predict: named tensors in, named tensors out.

Source: TensorFlow Serving 2.16.1 (predict_util.cc) and TensorFlow 2.16
(saved_model/util.cc), for what is refused and how.
"""

from collections.abc import Iterable

import numpy as np
from tensorflow_serving.apis import model_pb2, predict_pb2

from mmkeras.schema import SERVING_DEFAULT
from serving.server.deadline import Deadline
from serving.server.engine.servable import Servable
from serving.server.engine.tensors import to_array, to_proto
from serving.server.errors import (
    failed_precondition,
    internal,
    invalid_argument,
)

CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
_METHODS = ("tensorflow/serving/predict", CLASSIFY_METHOD, REGRESS_METHOD)


def predict(
    servable: Servable,
    request: predict_pb2.PredictRequest,
    deadline: Deadline,
    most_bytes: int,
) -> predict_pb2.PredictResponse:
    """Returns the outputs of the signature that the request names.

    Args:
        servable: The version that answers.
        request: Tensors by the names of the signature.
        deadline: Until when the answer is wanted.
        most_bytes: Size of the largest tensor that a request may stand for.

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
    feeds = _feeds(signature, request, most_bytes)
    aliases = _wanted(signature, request.output_filter)
    fetches = [signature.outputs[alias].name for alias in aliases]
    answers = servable.run(feeds, fetches, deadline, "Predict")
    response = predict_pb2.PredictResponse(
        model_spec=answering(servable, request.model_spec, name)
    )
    for alias, array in zip(aliases, answers, strict=True):
        response.outputs[alias].CopyFrom(to_proto(array))
    return response


def answering(
    servable: Servable, asked: model_pb2.ModelSpec, signature: str
) -> model_pb2.ModelSpec:
    """Returns which version has answered, and by which signature."""
    spec = model_pb2.ModelSpec(name=asked.name, signature_name=signature)
    spec.version.value = servable.version
    return spec


def _feeds(signature, request, most_bytes: int) -> dict[str, np.ndarray]:
    sent, known, defaults = request.inputs, signature.inputs, signature.defaults
    if not 0 <= len(known) - len(sent) <= len(defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(known)} "
            f"len({_set(sent)}) != len({_set(known)}). "
            f"Sent extra: {_set(set(sent) - set(known))}. "
            f"Missing but required: {_set(set(known) - set(sent))}."
        )
    feeds = {}
    for alias in sorted(known):
        name = known[alias].name
        if alias not in sent and alias not in defaults:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {name}) not found in "
                "request and no default value provided. Inputs expected to be in the "
                f"request {_set(sent)}, or default input alias set: "
                f"{','.join(sorted(defaults))}"
            )
        proto = sent[alias] if alias in sent else defaults[alias]
        try:
            feeds[name] = to_array(proto, most_bytes)
        except ValueError:
            raise invalid_argument(f"tensor parsing error: {alias}") from None
    return feeds


def _wanted(signature, names: Iterable[str]) -> list[str]:
    """Returns the names of the outputs that are asked for, or of all."""
    wanted: list[str] = []
    for alias in names:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected "
                f"to be in the set {_set(signature.outputs)}."
            )
        if alias in wanted:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        wanted.append(alias)
    return wanted or sorted(signature.outputs)


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
