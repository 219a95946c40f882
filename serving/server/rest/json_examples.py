"""The body of a :classify or :regress -> the protobuf request of examples.

Source: tensorflow_serving/util/json_tensor.cc of TensorFlow Serving 2.16.1, whose
rules and texts these are. Where this is stricter: an example may name a feature once
only; TF Serving takes the last.
"""

from typing import Any, TypeVar

import numpy as np
from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import Feature
from tensorflow_serving.apis import classification_pb2, model_pb2, regression_pb2

from serving.server.errors import ServingError, invalid_argument
from serving.server.rest.json_reader import TwiceNamed, faults_of, read
from serving.server.rest.json_tensor import (
    check_lossless,
    decoded,
    is_base64,
    malformed,
    type_name,
)
from serving.server.rest.json_writer import is_double
from serving.server.rest.predict_request import set_signature

Request = TypeVar(
    "Request",
    classification_pb2.ClassificationRequest,
    regression_pb2.RegressionRequest,
)
_KIND_NAMES = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}
_INT64_MAX = 2**63 - 1


def examples_request(
    body: bytes, spec: model_pb2.ModelSpec, kind: type[Request]
) -> Request:
    """Converts the body.

    Costs, beside reading the JSON, a microsecond a value.

    Args:
        body: JSON.
        spec: Model that the request's path names; the body may name a signature.
        kind: ClassificationRequest or RegressionRequest.

    Raises:
        ServingError: The body holds no examples.
    """
    document = read(body)
    request = kind(model_spec=spec)
    with faults_of(body):
        set_signature(document, request)
        examples = request.input.example_list.examples
        if "context" in document:
            context = request.input.example_list_with_context
            context.context.CopyFrom(_example(document["context"]))
            examples = context.examples
        examples.extend(map(_example, _listed(document)))
    return request


def _listed(document: dict[str, Any]) -> list:
    if "examples" not in document:
        raise malformed(
            document,
            "When method is classify, key 'examples' is expected and was not found",
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise malformed(document, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise malformed(document, "'examples' value is an empty array")
    return examples


def _example(value: Any) -> Example:
    if not isinstance(value, dict):
        raise invalid_argument(
            f"Example must be JSON object but got JSON {type_name(value)}"
        )
    if isinstance(value, TwiceNamed):
        raise malformed(value, "names a feature twice")
    example = Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _append(item, name, feature)
    return example


def _append(value: Any, name: str, feature: Feature) -> None:
    """Adds a value to a feature, whose first value says of which type it is."""
    if isinstance(value, str):
        _list_of("bytes_list", name, feature).append(value.encode())
    elif is_base64(value):
        _list_of("bytes_list", name, feature).append(decoded(value))
    elif value is None or isinstance(value, list | dict):
        raise invalid_argument(
            f"Feature: {name} has element with unexpected JSON type: {type_name(value)}"
        )
    elif is_double(value):
        values = _list_of("float_list", name, feature)
        check_lossless(value, np.float32)
        values.append(float(value))
    else:
        values = _list_of("int64_list", name, feature)
        if value > _INT64_MAX:
            raise invalid_argument(
                f"Feature: {name} has uint64 element. Only int64 is supported."
            )
        values.append(int(value))


def _list_of(kind: str, name: str, feature: Feature):
    present = feature.WhichOneof("kind")
    if present not in (None, kind):
        raise _unlike(name, present)
    return getattr(feature, kind).value


def _unlike(name: str, present: str) -> ServingError:
    return invalid_argument(
        f"Unexpected element type in feature: {name} expecting type: "
        f"{_KIND_NAMES[present]}"
    )
