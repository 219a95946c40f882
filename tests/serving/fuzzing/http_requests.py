"""Hypothesis strategies of REST requests, from valid to absurd."""

import base64
import gzip
import json
from dataclasses import dataclass, field

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
    """HTTP request for a WSGI application.

    Attributes:
        target: Path and query, in Latin-1.
        headers: Headers by their WSGI names.
    """

    method: str
    target: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def valid_body(signature: str, infos, rows: int) -> str:
    """Returns a valid body of :predict for the inputs of a signature."""
    values = {}
    for name, info in infos.items():
        dims = [d.size for d in info.tensor_shape.dim[1:]]
        values[name] = _nested(_value(info.dtype), dims)
    return json.dumps({"signature_name": signature, "instances": [values] * rows})


def _value(dtype: int):
    return {7: "warm", 10: True}.get(dtype, 1)


def _nested(value, dims: list[int]):
    for size in reversed(dims):
        value = [value] * (2 if size < 0 else size)
    return value


def _leaves() -> st.SearchStrategy:
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.sampled_from(_WORDS),
        st.text(max_size=6),
        st.binary(max_size=30).map(lambda b: {"b64": base64.b64encode(b).decode()}),
    )


def draw_value() -> st.SearchStrategy:
    """Draws any JSON value."""
    names = st.sampled_from(("x", "b64", "numbers", "inputs", "text", "a", ""))
    return st.recursive(
        _leaves(),
        lambda v: st.one_of(
            st.lists(v, max_size=4), st.dictionaries(names, v, max_size=3)
        ),
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
            text = text.replace(
                old, draw(st.sampled_from(_ODD)), draw(st.integers(0, 2))
            )
        return text
    if how == 4:
        return draw(st.sampled_from(_ODD))
    key = draw(st.sampled_from(("instances", "inputs", "examples", "context", "x")))
    document = {"signature_name": name, key: draw(draw_value())}
    if how == 5:
        document["signature_name"] = draw(draw_value())
    elif how == 6:
        document[draw(st.sampled_from(("inputs", "examples", "instances")))] = draw(
            st.lists(st.dictionaries(st.sampled_from("xy"), _leaves(), max_size=2))
        )
    elif how == 7:
        rows = draw(st.lists(draw_value(), max_size=3))
        document = {"signature_name": name, "instances": rows}
    return json.dumps(document)


@st.composite
def draw_http_requests(draw, model: str, signatures) -> HttpRequest:
    """Draws requests, mostly for the model `model` with these signatures."""
    easy = draw(st.integers(0, 3))
    target = _PATHS[draw(st.integers(0, 4))] if easy else draw(st.sampled_from(_PATHS))
    target = target.replace("{m}", model)
    body = draw(draw_body(signatures)).encode("utf-8", "surrogatepass")
    headers = {"CONTENT_TYPE": "application/json"}
    coding = draw(st.integers(0, 15))
    if coding == 0:
        headers["HTTP_CONTENT_ENCODING"] = "gzip"
    elif coding == 1:
        headers["HTTP_CONTENT_ENCODING"] = draw(st.sampled_from(("gzip", "xgzip, br")))
        body = gzip.compress(body)
    elif coding == 2:
        headers["CONTENT_TYPE"] = draw(st.text(st.characters(max_codepoint=255)))
    if draw(st.integers(0, 15)) == 0:
        target = draw(st.text(st.characters(max_codepoint=255), max_size=30))
        target = "/v1/models/" * draw(st.booleans()) + target
    method = draw(st.sampled_from(_METHODS)) if not easy else "POST"
    return HttpRequest(method, target, body, headers)
