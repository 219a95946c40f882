import json

import pytest

from serving.server.deadline import Deadline
from serving.server.rest import json_rows
from serving.server.rest.json_inputs import InputType, parse_inputs
from tests.serving.server.assertions import serving_error

FLOAT, STRING, HALF = ({"x": InputType(name)} for name in ("float", "string", "half"))
TWO = {"a": InputType("float"), "b": InputType("int64")}
OPTIONAL = {name: InputType("string", optional=True) for name in "it"}
X, AB = {"x": [[1, 2], [3, 4]]}, {"a": [1.5, 3], "b": [[2], [4]]}
MIXED = {"i": [b"a", b""], "t": [b"", b"b"]}
ROW = "Failed to process element"


@pytest.fixture(params=[2**14, 0], ids=["at once", "in groups of rows"], autouse=True)
def small(request, monkeypatch):
    """Parses bodies at once, and each as a large one."""
    monkeypatch.setattr(json_rows, "_SMALL", request.param)
    monkeypatch.setattr(json_rows, "_GROUP", 1)


def parse(body, types):
    body = json.dumps(body).encode()
    document = json_rows.read_document(body, "instances", lambda size: None, Deadline())
    return parse_inputs(document, types)


@pytest.mark.parametrize(
    ("types", "body", "arrays"),
    [
        (FLOAT, {"instances": [[1, 2], [3, 4]]}, X),
        (FLOAT, {"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}, X),
        (FLOAT, {"inputs": [[1, 2], [3, 4]]}, X),
        (FLOAT, {"inputs": X}, X),
        (TWO, {"instances": [{"a": 1.5, "b": [2]}, {"b": [4], "a": 3}]}, AB),
        (TWO, {"inputs": {**AB, "c": "ignored"}}, AB),
        (STRING, {"instances": [{"b64": "YQ=="}, "b"]}, {"x": [b"a", b"b"]}),
        (STRING, {"inputs": {"b64": "YQ=="}}, {"x": b"a"}),
        (OPTIONAL, {"instances": [{"i": "a"}, {"t": "b"}]}, MIXED),
        (OPTIONAL, {"inputs": {"t": ["", "b"]}}, {**MIXED, "i": [b"", b""]}),
    ],
)
def test_a_body_becomes_named_arrays(types, body, arrays):
    result, by_row = parse(body, types)
    assert {name: array.tolist() for name, array in result.items()} == arrays
    assert by_row == ("instances" in body)


@pytest.mark.parametrize(
    ("types", "body", "message"),
    [
        (FLOAT, {}, "Missing 'inputs' or 'instances' key"),
        (FLOAT, {"instances": 1, "inputs": 1}, "JSON Value: Not formatted correctly"),
        (FLOAT, {"instances": 1}, "JSON Value: 1 Excepting 'instances' to be an list"),
        (FLOAT, {"instances": []}, "JSON Value: .. No values in 'instances' array"),
        (FLOAT, {"inputs": {}}, "Missing named input: x in 'inputs' object."),
        (OPTIONAL, {"inputs": {}}, "Missing named input: i in 'inputs' object."),
        (TWO, {"instances": [1]}, "instances is a plain list, but expecting list of"),
        (TWO, {"inputs": [1]}, "inputs is a plain value/list, but expecting an object"),
        (FLOAT, {"instances": [{"x": 1}, 2]}, "Expecting object but got list at item"),
        (FLOAT, {"instances": [1, {"x": 2}]}, "Expecting value/list but got object at"),
        (FLOAT, {"instances": [1, "a"]}, f'{ROW}: 1 .*: x: .* "a" Type: String is not'),
        (FLOAT, {"instances": [{"x": 1}, {"z": 1}]}, f"{ROW}: 1 .* be equal to: x"),
        (TWO, {"instances": [{"a": 1}]}, f"{ROW}: 0 .* keys must be equal to: a,b"),
        (FLOAT, {"instances": [[1, 2], [3]]}, f"{ROW}: 1 .* shape .2. but got: .1."),
        (HALF, {"instances": [1]}, f"{ROW}: 0 .* UNIMPLEMENTED: x: .* to type: half"),
    ],
)
def test_an_invalid_body_is_refused(types, body, message):
    code = "UNIMPLEMENTED" if types is HALF else "INVALID_ARGUMENT"
    assert serving_error(parse, body, types, match=f"^{message}").code.name == code
