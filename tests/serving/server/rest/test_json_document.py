import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.errors import ServingError
from serving.server.rest.json_document import decode_base64, parse_object, quote
from tests.serving.server.assertions import serving_error

LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
VALUES = st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(st.text(), v))


@given(st.dictionaries(st.text(), VALUES))
def test_any_object_equals_the_standard_librarys(document):
    body = json.dumps(document).encode()
    assert repr(parse_object(body)) == repr(json.loads(body))


@given(st.binary() | st.text(alphabet='{}[]":,\\u0dD18eE+-.nulINa\n ').map(str.encode))
def test_any_bytes_are_an_object_or_an_error(body):
    try:
        assert isinstance(parse_object(body), dict)
    except ServingError as error:
        assert error.code.name == "INVALID_ARGUMENT"


def test_nan_infinity_and_a_byte_order_mark_are_accepted():
    assert repr(parse_object(b'{"a": [NaN, -Infinity]}')) == "{'a': [nan, -inf]}"
    assert parse_object(b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


BROKEN = ["", " \n", "{", "{a:1}", '{"a":1,}', '{"a" 1}', '{"a":nul}', '{"a":"\n"}']
BROKEN += ['{"a":"\\ud800"}', '{"a":1e999}', '{"a":' + "[" * 200_000, "{}x", '{"a":.1}']
BROKEN += ['{"a":NaN', '{"a":-Infinityy}', '{"a":NaN,"b":"\\ud800"}']
VALID = ["[1]", "3.5", '"x"', "null"]


@pytest.mark.parametrize("text", BROKEN + VALID)
def test_a_document_that_is_broken_or_no_object_is_refused(text):
    error = serving_error(parse_object, text.encode())
    start = f"JSON Value: {text} Is not" if text in VALID else "JSON Parse error: "
    assert error.code.name == "INVALID_ARGUMENT" and error.message.startswith(start)


@given(st.binary())
def test_any_bytes_survive_base64_with_and_without_padding(content):
    text = base64.b64encode(content).decode()
    for variant in (text, text.rstrip("="), "\n".join(text)):
        assert decode_base64({"b64": variant}) == content


@pytest.mark.parametrize("text", ["e", "eA=", "eA===", "=", "é", "e=A=", "eA=x", 1])
def test_invalid_base64_is_refused(text):
    error = serving_error(decode_base64, {"b64": text}, match="base64 d(ecode|ata)$")
    assert error.code.name == "INVALID_ARGUMENT"


def test_a_quotation_of_a_large_value_is_short():
    large = {"a" * 5000: [["x" * 5000] * 1000] * 1000}
    assert len(quote(large)) <= 203
    assert quote({"a": [1.5, None, "é"]}) == '{"a": [1.5, null, "é"]}'
