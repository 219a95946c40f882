"""A protobuf answer -> the JSON text of a REST answer.

Source: tensorflow_serving/util/json_tensor.cc and
model_servers/http_rest_api_util.cc of TensorFlow Serving 2.16.1. Where this differs:
TF Serving writes strings that are no UTF-8 as they are, which no reader of JSON
takes. Here all strings of such an output leave as {"b64": ...}, as if it was named
`*_bytes`. Outputs stand in the order of their names.
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
from serving.server.rest.json_tensor import name_of
from serving.server.rest.json_writer import array, decimals, members, quoted

_DECIMAL = (types_pb2.DT_FLOAT, types_pb2.DT_DOUBLE)
_WHOLE = (types_pb2.DT_INT8, types_pb2.DT_INT16, types_pb2.DT_INT32)
_WHOLE += (types_pb2.DT_INT64, types_pb2.DT_UINT8, types_pb2.DT_UINT32)
_WHOLE += (types_pb2.DT_UINT64,)
_BYTES_SUFFIX = "_bytes"


def predict_answer(outputs: Mapping[str, TensorProto], by_row: bool) -> str:
    """Writes the outputs of a :predict, a lone one without its name.

    Costs 1.3 microseconds a float, 1.7 a double, 0.4 a whole number.

    Args:
        outputs: Tensors by name.
        by_row: Whether as "predictions", one a row, or as "outputs".

    Raises:
        ServingError: An output has no batch, another batch than the others, or a type
            that JSON cannot hold.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    tensors = {name: outputs[name] for name in sorted(outputs)}
    alone = len(tensors) == 1
    if not by_row:
        level = 1 if alone else 2
        columns = {
            name: array(_texts(name, tensor, level), _shape(tensor), level, False)
            for name, tensor in tensors.items()
        }
        body = next(iter(columns.values())) if alone else members(columns, 1)
        return members({"outputs": body}, 0)
    size = _batch_size(tensors)
    level = 2 if alone else 3
    rows_of = {name: _rows(name, t, size, level) for name, t in tensors.items()}
    if alone:
        return members({"predictions": _listed(next(iter(rows_of.values())))}, 0)
    rows = [
        members(dict(zip(rows_of, row, strict=True)), 2)
        for row in zip(*rows_of.values(), strict=True)
    ]
    return members({"predictions": array(rows, [len(rows)], 1, False)}, 0)


def classify_answer(result: classification_pb2.ClassificationResult) -> str:
    """Writes the [label, score] of each class of each example.

    Raises:
        ServingError: There is nothing to write.
    """
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    examples = []
    for example in result.classifications:
        scores = decimals(np.array([c.score for c in example.classes], np.float32))
        pairs = zip(example.classes, scores, strict=True)
        parts = [f"[{quoted(one.label)}, {score}]" for one, score in pairs]
        examples.append(f"[{', '.join(parts)}]")
    return members({"results": _listed(examples)}, 0)


def regress_answer(result: regression_pb2.RegressionResult) -> str:
    """Writes the value of each example.

    Raises:
        ServingError: There is nothing to write.
    """
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    values = np.array([one.value for one in result.regressions], np.float32)
    return members({"results": f"[{', '.join(decimals(values))}]"}, 0)


def status_answer(response: get_model_status_pb2.GetModelStatusResponse) -> str:
    """Writes the states of a model's versions."""
    return _json_of(response)


def metadata_answer(response: get_model_metadata_pb2.GetModelMetadataResponse) -> str:
    """Writes a model's signatures."""
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    spec = _json_of(response.model_spec, names_as_they_are=True)
    known = _json_of(signatures, names_as_they_are=True)
    return f'{{\n"model_spec":{spec},\n"metadata": {{"signature_def": {known}}}\n}}\n'


def error_answer(message: str) -> str:
    """Writes an error."""
    return members({"error": quoted(message)}, 0)


def _json_of(message: Message, names_as_they_are: bool = False) -> str:
    text = json_format.MessageToJson(
        message,
        **DEFAULTS,
        preserving_proto_field_name=names_as_they_are,
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


def _listed(parts: Sequence[str]) -> str:
    """Arranges rows on one line, and the end of their array on the next one."""
    return f"[{', '.join(parts)}\n    ]" if parts else "[]"


def _rows(name: str, tensor: TensorProto, size: int, level: int) -> Iterable[str]:
    shape = _shape(tensor)[1:]
    texts = _texts(name, tensor, level, one_line_ranks=len(shape))
    step = len(texts) // size if size else 0
    return [
        array(texts[i * step : (i + 1) * step], shape, level, True) for i in range(size)
    ]


def _shape(tensor: TensorProto) -> list[int]:
    return [dim.size for dim in tensor.tensor_shape.dim]


def _texts(
    name: str, tensor: TensorProto, level: int, one_line_ranks: int | None = None
) -> list[str]:
    """Writes each value of a tensor, {"b64"} with the margin that it has in there."""
    if tensor.dtype not in (*_DECIMAL, *_WHOLE, types_pb2.DT_BOOL, types_pb2.DT_STRING):
        raise invalid_argument(
            f"Failed to write JSON value for tensor type: {name_of(tensor.dtype)}"
        )
    values = tf.make_ndarray(tensor).ravel()
    if tensor.dtype in _DECIMAL:
        return decimals(values)
    if tensor.dtype in _WHOLE:
        return list(map(str, values.tolist()))
    if tensor.dtype == types_pb2.DT_BOOL:
        return ["true" if value else "false" for value in values]
    ranks = len(tensor.tensor_shape.dim) if one_line_ranks is None else one_line_ranks
    return _strings(values.tolist(), name.endswith(_BYTES_SUFFIX), level + ranks)


def _strings(values: list[bytes], as_bytes: bool, level: int) -> list[str]:
    if not as_bytes:
        try:
            return [quoted(value.decode()) for value in values]
        except UnicodeDecodeError:
            pass
    return [members({"b64": f'"{b64encode(v).decode()}"'}, level) for v in values]
