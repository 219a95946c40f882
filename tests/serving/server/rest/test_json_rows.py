import json

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.deadline import Deadline
from serving.server.errors import ServingError
from serving.server.rest import json_rows
from serving.server.rest.json_rows import read_document
from tests.serving.server.assertions import serving_error

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 99) | st.text('a,"\\[]{}é'),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["a", "instances", '"']), inner, max_size=3),
    max_leaves=10,
)


@pytest.fixture
def step(monkeypatch):
    """Sets the bytes that are scanned and parsed at once."""

    def step(scanned, parsed):
        monkeypatch.setattr(json_rows, "_SMALL", 0)
        monkeypatch.setattr(json_rows, "_STEP", scanned)
        monkeypatch.setattr(json_rows, "_GROUP", parsed)

    return step


def read(body, acquire=lambda size: None, deadline=None):
    return read_document(body, "instances", acquire, deadline or Deadline())


def rows_of(document):
    rows = []
    for index, group in document.groups():
        assert index == len(rows)
        rows += group
    return rows


def test_a_document_read_in_groups_equals_the_one_read_at_once(step):
    @given(VALUES, st.none() | st.lists(VALUES), VALUES, st.sampled_from([None, 1]))
    def check(before, rows, after, indent):
        document = {"x": before, "instances": rows, "y": after}
        body = json.dumps(document, indent=indent, ensure_ascii=False).encode()
        for sizes in ((1, 1), (7, 20), (10_000, 10_000)):
            step(*sizes)
            result = read(body)
            assert result.row_count == len(rows or [])
            members = dict(result.members)
            if rows is not None:
                members["instances"] = rows_of(result)
            assert members == document

    check()


@pytest.mark.parametrize("text", ["[1,]", "[,1]", "[1,,2]", "[1", "[1 2]", '["]'])
def test_broken_rows_are_refused(step, text):
    for sizes in ((1, 1), (100, 100)):
        step(*sizes)
        with pytest.raises(ServingError, match="JSON Parse error"):
            rows_of(read(b'{"instances": %b}' % text.encode()))


def test_rows_are_counted_before_they_are_parsed(step):
    step(100, 100)
    assert read(b'{"instances": [nonsense, more]}').row_count == 2


def test_memory_is_reserved_before_rows_are_parsed(step):
    step(100, 8)
    reserved = []
    document = read(b'{"instances": [1, 2, 3, 4, 5, 6]}', reserved.append)
    assert not reserved
    groups = document.groups(1000)
    next(groups)
    assert len(reserved) == 1
    next(groups)
    assert len(reserved) == 2 and reserved[1] > 1000


def test_memory_is_reserved_before_a_document_is_parsed(step):
    step(100, 100)

    def refuse(size):
        raise ServingError(grpc.StatusCode.RESOURCE_EXHAUSTED, str(size))

    error = serving_error(read, b'{"inputs": [[], [], 1]}', refuse)
    assert int(error.message) > 4 * 200


def test_values_outside_rows_are_limited(step, monkeypatch):
    step(100, 100)
    monkeypatch.setattr(json_rows, "_MAX_VALUES", 10)
    text = "[" + "1," * 20 + "1]"
    serving_error(read, b'{"inputs": %b}' % text.encode(), match="has 22 values, and")
    large_row = read(b'{"instances": [%b]}' % text.encode())
    serving_error(rows_of, large_row, match="Row 0 has 20 values")
    step(100, 8)
    assert rows_of(read(b'{"instances": %b}' % text.encode())) == [1] * 21


def test_the_deadline_ends_the_scan_and_the_parsing(step):
    step(1, 1)
    over, body = Deadline(0), b'{"instances": [1, 2]}'
    assert serving_error(read, body, deadline=over).code.name == "DEADLINE_EXCEEDED"
    deadline = Deadline()
    document = read(body, deadline=deadline)
    deadline.cancel()
    assert serving_error(rows_of, document).code.name == "DEADLINE_EXCEEDED"
