"""Hypothesis strategies of REST requests, from valid to absurd."""

import base64
import gzip
import json
from dataclasses import dataclass

from hypothesis import strategies as st

_PATHS = ("/v1/models/{m}:predict", "/v1/models/{m}:predict", "/v1/models/{m}:predict")
_PATHS += ("/v1/models/{m}:classify", "/v1/models/{m}:regress", "/v1/models/{m}")
_PATHS += ("/v1/models/{m}/metadata", "/v1/models/{m}/versions/1:predict")
_PATHS += ("/v1/models/{m}/versions/99999999999999999999999:predict", "/", "*", "")
_PATHS += ("/v1/models/{m}/labels/\xff:predict", "/v1/models/%00:predict", "/v1/models")
_PATHS += ("/v1/models/{m}/versions/-1:predict", "/v1/models//metadata", "http://[::1")
_PATHS += ("/v1/models/" + "m" * 5000 + ":predict", "/v1/models/{m}?x=%zz#y", "//v1/..")
_PATHS += ("/v1/models/%F0%9F%92%A9" * 200, "/v1/models/{m}:PREDICT", "/v1/%0d%0aX: y")
_METHODS = ("POST",) * 12 + ("GET",) * 3
_METHODS += ("PUT", "HEAD", "OPTIONS", "DELETE", "X\u00e9")
_ODD = ("1e999", "-1e999", "9" * 400, "9" * 5000, "1e-999", "-0", "0.1e", "NaN")
_ODD += ("Infinity", "-NaN", '"\\ud800"', '"\\u0000"', '{"b64":"####"}', "{}", "[]")
_ODD += ("18446744073709551616", '{"b64":"' + "A" * 3000 + '"}', "[" * 50_000)
_ODD += ("[" * 900 + "]" * 900, '{"a":' * 600 + "1" + "}" * 600)
_ODD += ('"' + "\\u00e9" * 900 + '"', "1.7976931348623159e308")
_WORDS = ("", "warm fire", "a  b", "\0", "\N{SNOWMAN}", "x" * 300)


@dataclass(frozen=True)
class HttpRequest:
    """HTTP request for an ASGI application."""

    method: str
    target: str  # path and query, in Latin-1
    body: bytes
    headers: dict[str, str]  # with _ for -


def valid_body(signature: str, infos, rows: int) -> str:
    """Returns a valid body of :predict for the inputs of a signature."""
    values = {}
    for name, info in infos.items():
        values[name] = {7: "warm", 10: True}.get(info.dtype, 1)
        for dim in reversed(info.tensor_shape.dim[1:]):
            values[name] = [values[name]] * (2 if dim.size < 0 else dim.size)
    return json.dumps({"signature_name": signature, "instances": [values] * rows})


_BASE64 = st.binary(max_size=30).map(lambda b: {"b64": base64.b64encode(b).decode()})
_LEAVES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats()
_LEAVES |= st.sampled_from(_WORDS) | st.text(max_size=6) | _BASE64
_NAMES = st.sampled_from(("x", "b64", "numbers", "inputs", "text", "a", ""))
_VALUES = st.recursive(
    _LEAVES,
    lambda v: st.lists(v, max_size=4) | st.dictionaries(_NAMES, v, max_size=3),
    max_leaves=12,
)


@st.composite
def draw_body(draw, signatures) -> str:
    """Draws a JSON body: valid, valid with one invalid part, or arbitrary."""
    how = draw(st.integers(0, 9))
    name = draw(st.sampled_from(sorted(s for s in signatures if s[0] != "_")))
    if how < 4:
        text = valid_body(name, signatures[name].inputs, draw(st.sampled_from((1, 2))))
        if how:
            old = draw(st.sampled_from(("1", "warm", "true", '"', "]", "{", ",")))
            odd, count = draw(st.sampled_from(_ODD)), draw(st.integers(0, 2))
            text = text.replace(old, odd, count)
        return text
    if how == 4:
        return draw(st.sampled_from(_ODD))
    key = draw(st.sampled_from(("instances", "inputs", "examples", "context", "x")))
    document = {"signature_name": name, key: draw(_VALUES)}
    if how == 5:
        document["signature_name"] = draw(_VALUES)
    elif how == 6:
        rows = st.lists(st.dictionaries(st.sampled_from("xy"), _LEAVES, max_size=2))
        key = draw(st.sampled_from(("inputs", "examples", "instances")))
        document[key] = draw(rows)
    elif how == 7:
        rows = draw(st.lists(_VALUES, max_size=3))
        document = {"signature_name": name, "instances": rows}
    return json.dumps(document)


@st.composite
def draw_http_requests(draw, model: str, signatures) -> HttpRequest:
    """Draws requests, mostly for the model `model` with these signatures."""
    easy = draw(st.integers(0, 3))
    target = _PATHS[draw(st.integers(0, 4))] if easy else draw(st.sampled_from(_PATHS))
    target = target.replace("{m}", model)
    body = draw(draw_body(signatures)).encode("utf-8", "surrogatepass")
    headers = {"content_type": "application/json"}
    coding = draw(st.integers(0, 15))
    if coding == 0:
        headers["content_encoding"] = "gzip"
    elif coding == 1:
        headers["content_encoding"] = draw(st.sampled_from(("gzip", "xgzip, br")))
        body = gzip.compress(body)
    elif coding == 2:
        headers["content_type"] = draw(st.text(st.characters(max_codepoint=255)))
    if draw(st.integers(0, 15)) == 0:
        target = draw(st.text(st.characters(max_codepoint=255), max_size=30))
        target = "/v1/models/" * draw(st.booleans()) + target
    method = draw(st.sampled_from(_METHODS)) if not easy else "POST"
    return HttpRequest(method, target, body, headers)
