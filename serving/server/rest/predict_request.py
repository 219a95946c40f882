"""Conversion of the JSON body of :predict to a protobuf request.

Source: tensorflow_serving/util/json_tensor.cc of TensorFlow Serving 2.16.1, for the
rules and the texts of errors. This is stricter: a row may not name an input twice; TF
Serving would mix up the values of rows.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow_serving.apis import model_pb2, predict_pb2

from mmkeras.schema import SERVING_DEFAULT
from serving.server.errors import ServingError, invalid_argument
from serving.server.rest.json_reader import DuplicateNames, locate_errors, read_json
from serving.server.rest.json_tensor import (
    collect_values,
    flatten_values,
    infer_shape,
    is_base64,
    malformed_value,
    pack,
    to_tensor,
)
from serving.server.rest.json_writer import quote_value

# signatures(model spec) -> {signature name: signature}
Signatures = Callable[[model_pb2.ModelSpec], Mapping[str, SignatureDef]]

_MAX_RANK = 254  # of a TensorFlow tensor


def parse_predict_request(
    body: bytes, spec: model_pb2.ModelSpec, signatures: Signatures
) -> tuple[predict_pb2.PredictRequest, bool]:
    """Converts the body of :predict.

    It takes 0.6 microseconds per number of 17 digits, 0.4 of them for the JSON, and
    three times as long for an invalid body.

    Args:
        body: JSON.
        spec: Model of the request's path; the body may name a signature.
        signatures: Returns the signatures of a model.

    Returns:
        The request, and whether it has rows ("instances") instead of columns.

    Raises:
        ServingError: The body does not fit the signature.
    """
    document = read_json(body)
    request = predict_pb2.PredictRequest(model_spec=spec)
    with locate_errors(body):
        set_signature(document, request)
    dtypes = _dtypes(request.model_spec, signatures)
    with locate_errors(body):
        by_row = "instances" in document
        if by_row and "inputs" in document:
            raise malformed_value(
                document,
                "Not formatted correctly expecting only one of 'inputs' or 'instances' "
                "keys to exist ",
            )
        if by_row:
            tensors = _rows(document, dtypes)
        elif "inputs" in document:
            tensors = _columns(document["inputs"], dtypes)
        else:
            raise invalid_argument("Missing 'inputs' or 'instances' key")
    for name, proto in tensors.items():
        if len(proto.tensor_shape.dim) > _MAX_RANK:
            raise invalid_argument(f"tensor parsing error: {name}")
        request.inputs[name].CopyFrom(proto)
    return request, by_row


def set_signature(document: dict[str, Any], request: Any) -> None:
    """Copies the signature name of a body into a request.

    Raises:
        ServingError: The name is not a text.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise malformed_value(
            document,
            "not formatted correctly. 'signature_name' key must be a string value.",
        )
    if name:
        request.model_spec.signature_name = name


def _dtypes(spec: model_pb2.ModelSpec, signatures: Signatures) -> dict[str, int]:
    """Returns {input: dtype} of the signature, in the order of the names."""
    name = spec.signature_name or SERVING_DEFAULT
    known = signatures(spec)
    if name not in known:
        raise invalid_argument(
            f'Serving signature name: "{name}" not found in signature def'
        )
    inputs = known[name].inputs
    if not inputs:
        shown = spec.signature_name or "DEFAULT"
        raise invalid_argument(f"Failed to get input map for signature: {shown}")
    return {key: inputs[key].dtype for key in sorted(inputs)}


def _columns(value: Any, dtypes: dict[str, int]) -> dict[str, TensorProto]:
    if not isinstance(value, dict) or is_base64(value):
        if len(dtypes) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        return {name: to_tensor(value, dtype) for name, dtype in dtypes.items()}
    tensors = {}
    for name, dtype in dtypes.items():
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        tensors[name] = to_tensor(value[name], dtype)
    return tensors


def _rows(document: dict[str, Any], dtypes: dict[str, int]) -> dict[str, TensorProto]:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise malformed_value(document, "Excepting 'instances' to be an list/array")
    if not rows:
        raise malformed_value(document, "No values in 'instances' array")
    if not isinstance(rows[0], dict) and len(dtypes) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    if columns := _plain_columns(rows, dtypes):
        return columns
    return _row_by_row(rows, dtypes)


def _plain_columns(rows: list, dtypes: dict[str, int]) -> dict[str, TensorProto] | None:
    """Returns the tensors of rows with the same structure; None if rows differ."""
    columns = {next(iter(dtypes)): rows}
    if _is_object(rows[0]):
        if set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(dtypes)}:
            return None
        try:
            columns = {name: [row[name] for row in rows] for name in dtypes}
        except KeyError:
            return None
    tensors = {}
    for name, column in columns.items():
        shape = infer_shape(column)
        values = flatten_values(column, shape, dtypes[name])
        if values is None:
            return None
        tensors[name] = pack(values, shape, dtypes[name])
    return tensors


def _row_by_row(rows: list, dtypes: dict[str, int]) -> dict[str, TensorProto]:
    """Converts rows one by one, with an error for the first invalid row."""
    named = _is_object(rows[0])
    values: dict[str, list] = {name: [] for name in dtypes}
    shapes: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if named != _is_object(row):
            expected, got = ("object", "list") if named else ("value/list", "object")
            raise invalid_argument(
                f"Expecting {expected} but got {got} at item {i} of input list"
            )
        items = row if named else {next(iter(dtypes)): row}
        for name, item in items.items():
            try:
                _add(name, item, dtypes, values, shapes)
            except ServingError as error:
                key = f" key: {name}" if named else ""
                raise invalid_argument(
                    f"Failed to process element: {i}{key} of 'instances' list. Error: "
                    f"{error.code.name}: {error.message}"
                ) from None
        if named and (row.keys() != dtypes.keys() or type(row) is DuplicateNames):
            raise invalid_argument(
                f"Failed to process element: {i} of 'instances' list. JSON object: "
                f"{quote_value(row)} keys must be equal to: {','.join(dtypes)}"
            )
    return {
        name: pack(values[name], [len(rows), *shapes[name]], dtype)
        for name, dtype in dtypes.items()
        if name in shapes
    }


def _is_object(row: Any) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _add(name: str, item: Any, dtypes: dict, values: dict, shapes: dict) -> None:
    """Appends one input of a row to the values of the previous rows."""
    if name not in dtypes:
        raise invalid_argument(f"JSON object: does not have named input: {name}")
    shape, start = infer_shape(item), len(values[name])
    collect_values(item, 0, shape, dtypes[name], values[name])
    first = shapes.setdefault(name, shape)
    expected, size = prod(first), len(values[name]) - start
    if size != expected:
        raise invalid_argument(f"Expecting tensor size: {expected} but got: {size}")
    if shape != first:
        one, other = (f"[{','.join(map(str, s))}]" for s in (first, shape))
        raise invalid_argument(f"Expecting shape {one} but got: {other}")
