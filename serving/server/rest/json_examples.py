"""Conversion of the JSON body of :classify and :regress to tf.Examples.

Source: tensorflow_serving/util/json_tensor.cc of TensorFlow Serving 2.16.1, for the
rules and the first words of errors.
"""

from math import isfinite
from typing import Any

from tensorflow.core.example.example_pb2 import Example
from tensorflow.core.example.feature_pb2 import Feature
from tensorflow_serving.apis.input_pb2 import Input

from serving.server.errors import invalid_argument
from serving.server.rest.json_document import (
    decode_base64,
    is_base64,
    malformed_value,
    quote,
    type_name,
)
from serving.server.rest.json_rows import Document

_FLOAT_LIMIT = 2.0**128 - 2.0**103  # from here on a float32 is infinite
_INT64_MAX = 2**63 - 1
_KIND_NAMES = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def parse_examples(document: Document) -> Input:
    """Converts the "examples" and the "context" of a body, or raises ServingError."""
    members, data = document.members, Input()
    if "examples" not in members:
        raise malformed_value(
            list(members),
            "When method is classify, key 'examples' is expected and was not found",
        )
    if not isinstance(members["examples"], list):
        raise malformed_value(
            members["examples"], "Expecting 'examples' value to be an list/array"
        )
    if not document.row_count:
        raise malformed_value([], "'examples' value is an empty array")
    examples = data.example_list.examples
    if "context" in members:
        context = data.example_list_with_context
        context.context.CopyFrom(_example(members["context"]))
        examples = context.examples
    for _, rows in document.groups():
        examples.extend(map(_example, rows))
    return data


def _example(value: Any) -> Example:
    if not isinstance(value, dict):
        raise invalid_argument(
            f"Example must be JSON object but got JSON {type_name(value)}"
        )
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
    elif isinstance(value, float):
        if isfinite(value) and abs(value) >= _FLOAT_LIMIT:
            raise invalid_argument(
                f"Cannot convert JSON value: {quote(value)} to float without loss of "
                "precision."
            )
        _list_of("float_list", name, feature).append(value)
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
