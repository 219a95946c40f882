import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.server.errors import ServingError
from serving.server.rest.json_reader import (
    Constant,
    DuplicateNames,
    locate_errors,
    read_json,
)
from tests.serving.server.assertions import serving_error

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


# {kind of fault: documents with a ^ before the byte of the error, in Latin-1}
BROKEN = {
    "The document is empty.": " \n^",
    "Missing a name for object member.": (
        '{^ | {^a:1} | {^,} | {"a":1,^} | {"a":1, \n^}'
    ),
    "Invalid value.": (
        '{"a" ^1} | {"a":^,} | {"a":1,^,} | {"a":[^,]} | {"a":[1,^,2]} | {"a":[1,^]} | '
        '{"a":[1, ^]} | {"a":^nul} | {"\xc3\xa9":^x} | \xef\xbb\xbf{"a"^x} | {}^x | '
        '{"a":1 ^"b"} | {"a":0^1} | {"a":[1 ^2]} | {"a":1^.} | {"a":^"x | '
        '{"a":"^\0"} | {"a":"^\n"}'
    ),
    "Unexpected end of the document.": '{"a":^ | {"a"^ | {"a":1^ | {"a":[1^ | {"a":1,^',
    "The surrogate pair in string is invalid.": (
        '{"a":"^\\ud800"} | {"a":"\\\\^\\uDC00"}'
    ),
    "Invalid encoding in string.": '{"a":"^\xff"} | \xef\xbb\xbf{"^\xff"}',
    "Number too big to be stored in double.": '{"a":^' + "1" * 10_000 + "}",
    "Nested too deeply.": '{"a":' + "[" * 498 + "^" + "[" * 100_000,
}


@pytest.mark.parametrize(
    ("message", "document"),
    [(kind, text) for kind, texts in BROKEN.items() for text in texts.split(" | ")],
)
def test_a_broken_document_is_an_error_with_its_kind_and_offset(message, document):
    offset = document.index("^")
    error = serving_error(read_json, document.replace("^", "").encode("latin-1"))
    assert error.message == f"JSON Parse error: {message} at offset: {offset}"
    assert error.code.name == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"[1]", "JSON Value: [\n    1\n] Is not object"),
        (b"3.5", "JSON Value: 3.5 Is not object"),
        (b'"x"', 'JSON Value: "x" Is not object'),
        (b"null", "JSON Value: null Is not object"),
    ],
)
def test_a_document_that_is_no_object_is_refused(body, message):
    assert serving_error(read_json, body).message == message


def test_a_number_that_is_too_big_has_its_offset():
    body = b'{"1e999": "1e999", "a": [1e308, -1e999]}'
    with pytest.raises(ServingError, match="too big .* at offset: 32"):
        with locate_errors(body):
            raise OverflowError


def test_an_infinity_by_name_differs_from_a_number_that_is_too_big():
    document = read_json(b'{"a": [Infinity, -Infinity, NaN, 1e999]}')
    assert [type(v) for v in document["a"]] == [Constant] * 3 + [float]


def test_the_first_member_of_a_duplicate_name_counts():
    document = read_json(b'{"a": 1, "b": 2, "a": 3}')
    assert document == {"a": 1, "b": 2}
    assert isinstance(document, DuplicateNames)


def test_a_byte_order_mark_is_skipped_and_a_surrogate_pair_is_one_character():
    assert read_json(b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}
    assert read_json(b'{"a": "\\\\ud800"}') == {"a": "\\ud800"}


@given(st.dictionaries(st.text(), values))
def test_any_object_equals_the_standard_librarys(document):
    body = json.dumps(document).encode()
    try:
        assert repr(read_json(body)) == repr(json.loads(body))
    except ServingError as error:  # json.dumps writes lone surrogates
        assert "surrogate" in error.message


@given(st.binary() | st.text(alphabet='{}[]":,\\u0dD18eE+-.nulINa\n ').map(str.encode))
@example(b'{"a":"' + b"\\" * 99_999)
@example(b'{"a":"' + b"\\" * 99_999 + b"x")
def test_any_bytes_are_an_object_or_an_error_with_an_offset_in_the_body(body):
    try:
        assert isinstance(read_json(body), dict)
    except ServingError as error:
        if " at offset: " in error.message:
            offset = int(error.message.rpartition(" at offset: ")[2])
            assert 0 <= offset <= len(body)
