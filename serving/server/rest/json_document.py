"""JSON of REST requests and responses: parsing, writing and quoting."""

import binascii
import json
from base64 import b64decode
from typing import Any

import orjson

from serving.server.errors import ServingError, invalid_argument

_TYPE_NAMES = {type(None): "Null", str: "String", list: "Array", dict: "Object"}
_MAX_QUOTE = 200  # characters of a value in an error
_BOM = b"\xef\xbb\xbf"


def parse_json(text: bytes | bytearray) -> Any:
    """Returns a JSON value, or raises ServingError (INVALID_ARGUMENT)."""
    text = text.removeprefix(_BOM)
    try:
        return orjson.loads(text)
    except ValueError as error:
        reason = str(error).partition(": line ")[0]
    if b"NaN" in text or b"Infinity" in text:  # TF Serving takes them, unlike orjson
        try:
            value = json.loads(text)
            orjson.dumps(value)  # refuses lone surrogates and deep nesting
            return value
        except (ValueError, TypeError, RecursionError):
            pass
    raise invalid_argument(f"JSON Parse error: {reason}")


def parse_object(body: bytes | bytearray) -> dict[str, Any]:
    """Returns the JSON object of a body, or raises ServingError."""
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    document = parse_json(body)
    if not isinstance(document, dict):
        raise malformed_value(document, "Is not object")
    return document


def format_json(document: Any) -> bytes:
    """Returns the JSON of a document, which may have arrays of numpy."""
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def signature_name(document: dict[str, Any]) -> str:
    """Returns the signature that a body names, or ""."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {quote(name)} not formatted correctly. 'signature_name' key "
            "must be a string value."
        )
    return name


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
    if isinstance(value, bool):
        return str(value)
    return _TYPE_NAMES.get(type(value), "Number")


def quote(value: Any) -> str:
    """Returns the JSON of a value for an error, without the end of a long one."""
    text = ""
    for piece in json.JSONEncoder(ensure_ascii=False, default=repr).iterencode(value):
        text += piece[:_MAX_QUOTE]
        if len(text) > _MAX_QUOTE:
            return f"{text[:_MAX_QUOTE]}..."
    return text


def malformed_value(value: Any, message: str) -> ServingError:
    """Returns the error that quotes the value."""
    return invalid_argument(f"JSON Value: {quote(value)} {message}")
