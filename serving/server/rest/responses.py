"""Conversion of protobuf responses to the JSON of REST responses.

Source: tensorflow_serving/util/json_tensor.cc and
model_servers/http_rest_api_util.cc of TensorFlow Serving 2.16.1. Differences: outputs
are in the order of their names; an output with a string that is not UTF-8 is written as
{"b64": ...}, as if its name was `*_bytes` (TF Serving writes invalid JSON).
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    regression_pb2,
)

from mmkeras.environment.protobuf import DEFAULTS
from serving.server.errors import invalid_argument
from serving.server.rest.json_tensor import dtype_name
from serving.server.rest.json_writer import (
    format_array,
    format_floats,
    format_object,
    quote,
)

_DECIMAL = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)
_INTEGERS = (types_pb2.DT_INT8, types_pb2.DT_INT16, types_pb2.DT_INT32)
_INTEGERS += (types_pb2.DT_INT64, types_pb2.DT_UINT8, types_pb2.DT_UINT32)
_INTEGERS += (types_pb2.DT_UINT64,)
_BYTES_SUFFIX = "_bytes"


def format_predict(outputs: Mapping[str, TensorProto], by_row: bool) -> str:
    """Formats the outputs of :predict; a single output has no name.

    It takes 1.3 microseconds per float, 1.7 per double, 0.4 per integer.

    Args:
        outputs: Tensors by name.
        by_row: Whether to write "predictions", one per row, or "outputs".

    Raises:
        ServingError: The outputs differ in batch size, or a type has no JSON form.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    tensors = {name: outputs[name] for name in sorted(outputs)}
    is_single = len(tensors) == 1
    if not by_row:
        level = 1 if is_single else 2
        columns = {
            name: format_array(
                _texts(name, tensor, level), _shape(tensor), level, False
            )
            for name, tensor in tensors.items()
        }
        body = next(iter(columns.values())) if is_single else format_object(columns, 1)
        return format_object({"outputs": body}, 0)
    size = _batch_size(tensors)
    level = 2 if is_single else 3
    rows_of = {name: _rows(name, t, size, level) for name, t in tensors.items()}
    if is_single:
        return format_object(
            {"predictions": _join_rows(next(iter(rows_of.values())))}, 0
        )
    rows = [
        format_object(dict(zip(rows_of, row, strict=True)), 2)
        for row in zip(*rows_of.values(), strict=True)
    ]
    return format_object({"predictions": format_array(rows, [len(rows)], 1, False)}, 0)


def format_classify(result: classification_pb2.ClassificationResult) -> str:
    """Formats the [label, score] of each class of each example.

    Raises:
        ServingError: The result is empty.
    """
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    examples = []
    for example in result.classifications:
        scores = format_floats(np.array([c.score for c in example.classes], np.float32))
        pairs = zip(example.classes, scores, strict=True)
        parts = [f"[{quote(item.label)}, {score}]" for item, score in pairs]
        examples.append(f"[{', '.join(parts)}]")
    return format_object({"results": _join_rows(examples)}, 0)


def format_regress(result: regression_pb2.RegressionResult) -> str:
    """Formats the value of each example.

    Raises:
        ServingError: The result is empty.
    """
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    values = np.array([item.value for item in result.regressions], np.float32)
    return format_object({"results": f"[{', '.join(format_floats(values))}]"}, 0)


def format_status(response: get_model_status_pb2.GetModelStatusResponse) -> str:
    """Formats the states of a model's versions."""
    return _message_json(response)


def format_metadata(response: get_model_metadata_pb2.GetModelMetadataResponse) -> str:
    """Formats a model's signatures."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    spec = _message_json(response.model_spec, preserve_names=True)
    known = _message_json(signatures, preserve_names=True)
    return f'{{\n"model_spec":{spec},\n"metadata": {{"signature_def": {known}}}\n}}\n'


def format_error(message: str) -> str:
    """Formats an error."""
    return format_object({"error": quote(message)}, 0)


def _message_json(message: Message, preserve_names: bool = False) -> str:
    text = json_format.MessageToJson(
        message,
        **DEFAULTS,
        preserving_proto_field_name=preserve_names,
        indent=1,
        ensure_ascii=False,
    )
    return text + "\n"


def _batch_size(tensors: Mapping[str, TensorProto]) -> int:
    sizes: dict[str, int] = {}
    for name, tensor in tensors.items():
        if not tensor.tensor_shape.dim:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        sizes[name] = tensor.tensor_shape.dim[0].size
        first = next(iter(sizes.values()))
        if sizes[name] != first:
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {sizes[name]} "
                f"expecting: {first}"
            )
    return first


def _join_rows(parts: Sequence[str]) -> str:
    """Formats rows on one line; the closing bracket is on the next one."""
    return f"[{', '.join(parts)}\n    ]" if parts else "[]"


def _rows(name: str, tensor: TensorProto, size: int, level: int) -> Iterable[str]:
    shape = _shape(tensor)[1:]
    texts = _texts(name, tensor, level, one_line_ranks=len(shape))
    step = len(texts) // size if size else 0
    return [
        format_array(texts[i * step : (i + 1) * step], shape, level, True)
        for i in range(size)
    ]


def _shape(tensor: TensorProto) -> list[int]:
    return [dim.size for dim in tensor.tensor_shape.dim]


def _texts(
    name: str, tensor: TensorProto, level: int, one_line_ranks: int | None = None
) -> list[str]:
    """Formats each value of a tensor; {"b64"} with its indentation."""
    other_types = (types_pb2.DT_BOOL, types_pb2.DT_STRING)
    if tensor.dtype not in (*_DECIMAL, *_INTEGERS, *other_types):
        raise invalid_argument(
            f"Failed to write JSON value for tensor type: {dtype_name(tensor.dtype)}"
        )
    values = tf.make_ndarray(tensor).ravel()
    if tensor.dtype in _DECIMAL:
        return format_floats(values)
    if tensor.dtype in _INTEGERS:
        return list(map(str, values.tolist()))
    if tensor.dtype == types_pb2.DT_BOOL:
        return ["true" if value else "false" for value in values]
    ranks = len(tensor.tensor_shape.dim) if one_line_ranks is None else one_line_ranks
    return _strings(values.tolist(), name.endswith(_BYTES_SUFFIX), level + ranks)


def _strings(values: list[bytes], as_bytes: bool, level: int) -> list[str]:
    if not as_bytes:
        try:
            return [quote(value.decode()) for value in values]
        except UnicodeDecodeError:
            pass
    return [format_object({"b64": f'"{b64encode(v).decode()}"'}, level) for v in values]
