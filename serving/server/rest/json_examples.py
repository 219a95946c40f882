"""Conversion of the JSON body of :classify and :regress to a protobuf request.

Source: tensorflow_serving/util/json_tensor.cc of TensorFlow Serving 2.16.1, for the
rules and the texts of errors. This is stricter: a duplicate feature of an example is an
error; TF Serving uses the last one.
"""

from typing import Any, TypeVar

import numpy as np
from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import Feature
from tensorflow_serving.apis import classification_pb2, model_pb2, regression_pb2

from serving.server.errors import invalid_argument
from serving.server.rest.json_reader import DuplicateNames, locate_errors, read_json
from serving.server.rest.json_tensor import (
    check_lossless,
    decode_base64,
    is_base64,
    malformed_value,
    type_name,
)
from serving.server.rest.json_writer import is_float
from serving.server.rest.predict_request import set_signature

Request = TypeVar(
    "Request",
    classification_pb2.ClassificationRequest,
    regression_pb2.RegressionRequest,
)
_KIND_NAMES = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}
_INT64_MAX = 2**63 - 1


def parse_examples_request(
    body: bytes, spec: model_pb2.ModelSpec, kind: type[Request]
) -> Request:
    """Converts a body, in a microsecond per value on top of reading the JSON.

    Args:
        body: JSON.
        spec: Model of the request's path; the body may name a signature.
        kind: ClassificationRequest or RegressionRequest.

    Raises:
        ServingError: The body has no examples, or a value is invalid.
    """
    document = read_json(body)
    request = kind(model_spec=spec)
    with locate_errors(body):
        set_signature(document, request)
        examples = request.input.example_list.examples
        if "context" in document:
            context = request.input.example_list_with_context
            context.context.CopyFrom(_example(document["context"]))
            examples = context.examples
        examples.extend(map(_example, _example_list(document)))
    return request


def _example_list(document: dict[str, Any]) -> list:
    if "examples" not in document:
        raise malformed_value(
            document,
            "When method is classify, key 'examples' is expected and was not found",
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise malformed_value(
            document, "Expecting 'examples' value to be an list/array"
        )
    if not examples:
        raise malformed_value(document, "'examples' value is an empty array")
    return examples


def _example(value: Any) -> Example:
    if not isinstance(value, dict):
        raise invalid_argument(
            f"Example must be JSON object but got JSON {type_name(value)}"
        )
    if isinstance(value, DuplicateNames):
        raise malformed_value(value, "names a feature twice")
    example = Example()
    for name, content in value.items():
        feature = example.features.feature[name]
        for item in content if isinstance(content, list) else [content]:
            _append(item, name, feature)
    return example


def _append(value: Any, name: str, feature: Feature) -> None:
    """Adds a value to a feature; the first value sets the feature's type."""
    if isinstance(value, str):
        _list_of("bytes_list", name, feature).append(value.encode())
    elif is_base64(value):
        _list_of("bytes_list", name, feature).append(decode_base64(value))
    elif value is None or isinstance(value, list | dict):
        raise invalid_argument(
            f"Feature: {name} has element with unexpected JSON type: {type_name(value)}"
        )
    elif is_float(value):
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
    previous = feature.WhichOneof("kind")
    if previous not in (None, kind):
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: "
            f"{_KIND_NAMES[previous]}"
        )
    return getattr(feature, kind).value
