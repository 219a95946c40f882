import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.deadline import Deadline
from serving.server.rest import json_rows
from tests.serving.server.assertions import serving_error

LEAVES = st.none() | st.booleans() | st.integers(0, 99) | st.text('a,"\\[]{}é')
MEMBERS = partial(st.dictionaries, st.sampled_from(["a", "instances", '"']))
VALUES = st.recursive(LEAVES, lambda v: st.lists(v) | MEMBERS(v), max_leaves=10)


@pytest.fixture
def step(monkeypatch):
    """Sets the bytes that are scanned and parsed at once."""

    def step(scanned, parsed):
        for name, size in (("_SMALL", 0), ("_STEP", scanned), ("_GROUP", parsed)):
            monkeypatch.setattr(json_rows, name, size)

    step(100, 8)
    return step


def read(body, acquire=lambda size: None, deadline=None):
    deadline = deadline or Deadline()
    return json_rows.read_document(body.encode(), "instances", acquire, deadline)


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
        for sizes in ((1, 1), (7, 20), (10_000, 10_000)):
            step(*sizes)
            result = read(json.dumps(document, indent=indent, ensure_ascii=False))
            assert result.row_count == len(rows or [])
            values = rows if rows is None else rows_of(result)
            assert {**result.members, "instances": values} == document

    check()


@pytest.mark.parametrize("text", ["[1,]", "[,1]", "[1,,2]", "[1", "[1 2]", '["]'])
def test_broken_rows_are_refused(step, text):
    body = f'{{"instances": {text}}}'
    for sizes in ((1, 1), (100, 100)):
        step(*sizes)
        serving_error(lambda: rows_of(read(body)), match="^JSON Parse error: ")


def test_rows_are_counted_and_memory_is_reserved_before_they_are_parsed(step):
    reserved = []
    document = read('{"instances": [1, 2, 3, 4, nonsense]}', reserved.append)
    assert document.row_count == 5 and len(reserved) == 1  # without the rows
    serving_error(list, document.groups(1000), match="^JSON Parse error: ")
    assert len(reserved) == 4 and 2000 < reserved[2] < 3000


def test_memory_is_reserved_before_a_document_is_parsed(step):
    body, reserved = '{"inputs": [[], [], nonsense]}', []
    serving_error(read, body, reserved.append, match="^JSON Parse error: ")
    assert len(reserved) == 1 and reserved[0] > 4 * 200


def test_values_outside_rows_and_in_one_row_are_limited(step, monkeypatch):
    monkeypatch.setattr(json_rows, "_MAX_VALUES", 10)
    values = json.dumps([1] * 21)
    assert rows_of(read(f'{{"instances": {values}}}')) == [1] * 21
    serving_error(
        read,
        f'{{"inputs": {values}}}',
        match="^The body without rows in 'instances' has 22 values, and",
    )
    row = read(f'{{"instances": [{values}]}}')
    serving_error(rows_of, row, match="^Row 0 has 22 values, and the limit is 10$")
    nested = read(f'{{"instances": [{"[" * 11}{"]" * 11}]}}')
    serving_error(rows_of, nested, match="^Row 0 has 12 values, and the limit is 10$")
    body = f'{{"instances": [1], "other": {values}}}'
    serving_error(read, body, match="^The body without its rows has 24 values, and")


def test_the_deadline_ends_the_scan_and_the_parsing(step):
    deadline, body = Deadline(), '{"instances": [1, 2]}'
    document = read(body, deadline=deadline)
    deadline.cancel()
    for call in (lambda: read(body, deadline=deadline), lambda: rows_of(document)):
        assert serving_error(call).code.name == "DEADLINE_EXCEEDED"
