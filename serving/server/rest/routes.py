"""Paths of the REST API.

Source: model_servers/http_rest_api_handler.cc of TensorFlow Serving 2.16.1. Difference:
a version above 64 bits is an error with a text.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from tensorflow_serving.apis.model_pb2 import ModelSpec

from serving.server.errors import invalid_argument, not_found

_MODEL = r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?"
_FLAGS = re.IGNORECASE | re.ASCII
_POST = re.compile(rf"{_MODEL}:(classify|regress|predict)", _FLAGS)
_GET = re.compile(rf"{_MODEL}(?:/(metadata))?", _FLAGS)
_NO_MODEL = re.compile(
    r"/v1/models(?:/versions/\d+|/labels/[^/:]+)?(?:/metadata)?", _FLAGS
)
_API = re.compile(r"/v1/.*", _FLAGS)
_LARGEST_VERSION = 2**63 - 1


@dataclass(frozen=True)
class Route:
    """Parsed path."""

    action: str  # predict, classify, regress, status, metadata, options
    spec: ModelSpec


def parse_route(method: str, target: str) -> Route:
    """Parses the method and the path of a request, or raises ServingError."""
    if not _API.fullmatch(target):
        raise not_found(f"There is nothing at {method} {target}")
    match = None
    if method == "OPTIONS":
        return Route("options", ModelSpec())
    if method == "POST":
        match = _POST.fullmatch(target)
    elif method == "GET":
        match = _GET.fullmatch(target)
        if not match and _NO_MODEL.fullmatch(target):
            raise invalid_argument("Missing model name in request.")
    if not match or (method == "POST" and match[4] != match[4].lower()):
        raise invalid_argument(f"Malformed request: {method} {target}")
    name, version, label, action = match.groups()
    spec = ModelSpec(name=_unquote(name))
    if version is not None:
        if len(version) > 40 or int(version) > _LARGEST_VERSION:
            raise invalid_argument(f"Failed to convert version: {version} to numeric.")
        spec.version.value = int(version)
    if label is not None:
        spec.version_label = _unquote(label)
    return Route(action or "status", spec)


def _unquote(text: str) -> str:
    return unquote_to_bytes(text).decode(errors="replace")
