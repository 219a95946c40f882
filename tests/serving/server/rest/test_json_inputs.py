import json

import pytest

from serving.server.deadline import Deadline
from serving.server.rest import json_rows
from serving.server.rest.json_inputs import InputType, parse_inputs
from tests.serving.server.assertions import serving_error

TYPES = {
    "": {"x": InputType("float")},
    "two": {"a": InputType("float"), "b": InputType("int64")},
    "string": {"x": InputType("string")},
    "half": {"x": InputType("half")},
    "optional": {n: InputType("string", optional=True) for n in ("image", "text")},
}
ONE = {"x": [[1, 2], [3, 4]]}
TWO = {"a": [1.5, 3], "b": [[2], [4]]}
STRINGS = {"x": [b"a", b"b"]}
MIXED = {"image": [b"a", b""], "text": [b"", b"b"]}


@pytest.fixture(params=[2**14, 0], ids=["at once", "in groups of rows"], autouse=True)
def small(request, monkeypatch):
    """Parses bodies at once, and each as a large one."""
    monkeypatch.setattr(json_rows, "_SMALL", request.param)
    monkeypatch.setattr(json_rows, "_GROUP", 1)


def parse(body, types):
    body = json.dumps(body).encode()
    document = json_rows.read_document(body, "instances", lambda size: None, Deadline())
    return parse_inputs(document, TYPES[types])


@pytest.mark.parametrize(
    ("types", "body", "arrays"),
    [
        # The name of a single input is optional.
        ("", {"instances": [[1, 2], [3, 4]]}, ONE),
        ("", {"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}, ONE),
        ("", {"inputs": [[1, 2], [3, 4]]}, ONE),
        ("", {"inputs": {"x": [[1, 2], [3, 4]]}}, ONE),
        # Several inputs have names.
        ("two", {"instances": [{"a": 1.5, "b": [2]}, {"b": [4], "a": 3}]}, TWO),
        ("two", {"inputs": {**TWO, "c": "ignored"}}, TWO),
        # Base64 can replace any string.
        ("string", {"instances": [{"b64": "YQ=="}, "b"]}, STRINGS),
        ("string", {"instances": [{"x": {"b64": "YQ=="}}, {"x": "b"}]}, STRINGS),
        ("string", {"inputs": {"x": ["a", {"b64": "Yg=="}]}}, STRINGS),
        ("string", {"inputs": {"b64": "YQ=="}}, {"x": b"a"}),
        # Optional inputs may be left out.
        ("optional", {"instances": [{"image": "a"}, {"text": "b"}]}, MIXED),
        ("optional", {"instances": [{}]}, {"image": [b""], "text": [b""]}),
        (
            "optional",
            {"inputs": {"text": ["a", "b"]}},
            {"image": [b"", b""], "text": [b"a", b"b"]},
        ),
    ],
)
def test_a_body_becomes_named_arrays(types, body, arrays):
    result, by_row = parse(body, types)
    assert {name: array.tolist() for name, array in result.items()} == arrays
    assert by_row == ("instances" in body)


@pytest.mark.parametrize(
    ("types", "body", "message"),
    [
        ("", {}, "Missing 'inputs' or 'instances' key"),
        ("", {"inputs": {}}, "Missing named input: x in 'inputs' object."),
        ("optional", {"inputs": {}}, "Missing named input: image in 'inputs' object."),
        ("two", {"instances": [1]}, "instances is a plain list, but expecting"),
        ("two", {"inputs": [1]}, "inputs is a plain value/list, but expecting"),
        ("", {"instances": [{"x": 1}, 2]}, "Expecting object but got list at item 1"),
        ("", {"instances": [1, {"x": 2}]}, "Expecting value/list but got object at i"),
        ("", {"instances": [1, "a"]}, 'element: 1 of .*"a" Type: String'),
        ("", {"instances": [{"x": 1}, {"x": "a"}]}, "element: 1 .* x: .*String is n"),
        (
            "",
            {"instances": [{"x": 1}, {"z": 1}]},
            "element: 1 .* keys must be equal to: x",
        ),
        (
            "",
            {"instances": [[1, 2], [3]]},
            "element: 1 .* shape \\[2\\] but got: \\[1\\]",
        ),
        (
            "",
            {"instances": [[[1, 2]], [[1], [2]]]},
            r"shape \[1, 2\] but got: \[2, 1\]",
        ),
        ("two", {"instances": [{"a": 1}]}, "element: 0 .* must be equal to: a,b"),
        ("half", {"instances": [1]}, "element: 0 .* UNIMPLEMENTED: .* 1 to type: half"),
        ("", {"instances": []}, "No values in"),
        ("", {"instances": 1}, "to be an list/array"),
        ("", {"instances": [1], "inputs": 1}, "only one of 'inputs' or 'instances'"),
    ],
)
def test_an_invalid_body_is_refused(types, body, message):
    serving_error(parse, body, types, match=message)
