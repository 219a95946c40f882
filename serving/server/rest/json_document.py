"""JSON documents of REST requests and responses: parsing, writing, quoting."""

import binascii
import json
from base64 import b64decode
from itertools import islice
from typing import Any

import orjson

from serving.server.errors import ServingError, invalid_argument

_TYPE_NAMES = {type(None): "Null", str: "String", list: "Array", dict: "Object"}
_MAX_QUOTE = 200  # characters of a value in an error
_BOM = b"\xef\xbb\xbf"


def parse_json(body: bytes | bytearray) -> dict[str, Any]:
    """Returns the JSON object of a request's body.

    Raises:
        ServingError: The body is not JSON, or not an object.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    document = parse_value(body.removeprefix(_BOM))
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {quote(document)} Is not object")
    return document


def parse_list(items: bytes) -> list:
    """Returns the values of a JSON list, given without its brackets.

    Raises:
        ServingError: The bytes are no JSON values with commas between them.
    """
    return parse_value(b"[%b]" % items)


def parse_value(text: bytes | bytearray) -> Any:
    """Returns any JSON value.

    Raises:
        ServingError: The text is not JSON.
    """
    try:
        return orjson.loads(text)
    except ValueError as error:
        return _parse_nonfinite(text, error)


def _parse_nonfinite(body: bytes | bytearray, error: ValueError) -> Any:
    """Parses JSON with NaN or Infinity, which orjson refuses and TF Serving takes."""
    if b"NaN" in body or b"Infinity" in body:
        try:
            document = json.loads(body)
            orjson.dumps(document)  # refuses lone surrogates and deep nesting
            return document
        except (ValueError, TypeError, RecursionError):
            pass
    reason = str(error).partition(": line ")[0]
    raise invalid_argument(f"JSON Parse error: {reason}") from None


def signature_name(document: dict[str, Any]) -> str:
    """Returns the signature that a body names, or "".

    Raises:
        ServingError: The name is not a text.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise malformed_value(
            document,
            "not formatted correctly. 'signature_name' key must be a string value.",
        )
    return name


def format_json(document: Any) -> bytes:
    """Returns the JSON of a document, which may have arrays of numpy."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def is_base64(value: Any) -> bool:
    """Whether the value is an object with the only member "b64", a text."""
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def decode_base64(value: dict[str, Any]) -> bytes:
    """Returns the bytes of {"b64": text}; padding and white space are optional."""
    if not is_base64(value):
        raise malformed_value(value, "not formatted correctly for base64 data")
    text = "".join(value["b64"].split())
    digits = text.rstrip("=")
    missing = "=" * (-len(digits) % 4)
    try:
        if text[len(digits) :] not in ("", missing):
            raise binascii.Error
        return b64decode(digits + missing, validate=True)
    except ValueError:  # includes binascii.Error
        raise invalid_argument("Unable to base64 decode") from None


def type_name(value: Any) -> str:
    """Returns RapidJSON's name of a value's type."""
    return (
        str(value)
        if isinstance(value, bool)
        else _TYPE_NAMES.get(type(value), "Number")
    )


def quote(value: Any) -> str:
    """Returns the JSON of a value for an error, cut off if it is long."""
    if isinstance(value, str | list | dict):
        value = _shorten(value, 4)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_QUOTE else f"{text[:_MAX_QUOTE]}..."


def _shorten(value: Any, levels: int) -> Any:
    """Returns the start of a value, so that quoting a large one is cheap."""
    if isinstance(value, str):
        return value[:_MAX_QUOTE]
    if isinstance(value, list | dict) and not levels:
        return "..."
    if isinstance(value, list):
        return [_shorten(item, levels - 1) for item in value[:10]]
    if isinstance(value, dict):
        names = islice(value, 10)
        return {name[:_MAX_QUOTE]: _shorten(value[name], levels - 1) for name in names}
    return value


def malformed_value(value: Any, message: str) -> ServingError:
    return invalid_argument(f"JSON Value: {quote(value)} {message}")
