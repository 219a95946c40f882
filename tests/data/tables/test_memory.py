import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mmkeras.data.tables import open_table
from mmkeras.errors import UserError

COLUMNS = {"text": ["hi", None], "label ": ["a", "b"], "n": [1.0, 2.5]}
ROWS = [(0, {"text": "hi", "label": "a", "n": "1"})]
ROWS += [(1, {"text": "", "label": "b", "n": "2.5"})]
SOURCES = {
    "DataFrame": pd.DataFrame(COLUMNS),
    "dict": COLUMNS,
    "list": pd.DataFrame(COLUMNS).to_dict("records"),
    "Table": pa.table(COLUMNS),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_table_in_memory_has_the_rows_of_a_file(kind):
    table = open_table(SOURCES[kind])
    assert (table.name, table.unit, table.folder) == (kind, "row", ".")
    assert table.columns == ("text", "label", "n")
    assert list(table.records()) == list(table.records()) == ROWS
    assert list(table.records(["n"]))[1] == (1, {"n": "2.5"})
    assert len(list(table.records([]))) == 2


@pytest.mark.parametrize("missing", [None, 4])
@pytest.mark.parametrize("kind", SOURCES)
def test_whole_numbers_have_one_form_with_and_without_a_gap(kind, missing):
    frame = pd.DataFrame({"rooms": [1, 2, missing], "price": [1.0, 2.5, missing]})
    sources = {
        "DataFrame": frame,
        "dict": frame.to_dict("list"),
        "list": frame.to_dict("records"),
        "Table": pa.Table.from_pandas(frame),
    }
    rows = [row for _, row in open_table(sources[kind]).records()]
    last = "" if missing is None else "4"
    assert [row["rooms"] for row in rows] == ["1", "2", last]
    assert [row["price"] for row in rows] == ["1", "2.5", last]


def test_the_fingerprint_is_that_of_the_cells():
    hashes = {open_table(source).fingerprint() for source in SOURCES.values()}
    assert len(hashes) == 1
    assert open_table(SOURCES["DataFrame"].head(1)).fingerprint() not in hashes


def test_a_frame_has_categories_times_and_arrays():
    frame = pd.DataFrame(
        {
            "label": pd.Categorical(["a", None]),
            "time": pd.to_datetime(["2024-02-29", None]),
            "count": pd.array([1, None], "Int64"),
            "image": [np.zeros((2, 2, 3), np.uint8), None],
            0: [True, False],
        }
    )
    first, second = (row for _, row in open_table(frame).records())
    assert first.pop("image").startswith(b"\x89PNG")
    expected = {"label": "a", "time": "2024-02-29T00:00:00", "count": "1", "0": "true"}
    assert first == expected
    empty = dict.fromkeys(["label", "time", "count", "image"], "")
    assert second == empty | {"0": "false"}


def test_a_value_of_another_type_is_a_bad_cell_and_the_others_are_cells():
    table = open_table({"text": ["hi", object()], "label": ["a", "b"]})
    (_, first), (number, second) = table.records()
    assert first["text"] == "hi" and number == 1
    assert second["text"].reason.startswith("is of type object (allowed: ")
    assert second["label"] == "b"
    assert len([row for _, row in table.records(["label"]) if row["label"]]) == 2
    (_, problem), (_, row) = open_table([7, {"text": "hi"}]).records()
    assert (problem, row) == ("is of type int, not a dictionary", {"text": "hi"})


def test_a_key_that_is_absent_is_an_absent_cell():
    _, (_, row) = open_table([{"text": "hi"}, {"label": "a"}]).records()
    assert row == {"text": "", "label": "a"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"text": ["a"], "label": []}, "different lengths: 'text' 1, 'label' 0"),
        ({"text": "hi"}, "column 'text' is a str. Give a list"),
        ([{"a\ud800": 1}], "column 'a.' has half a character.*Rename it"),
        ([], "no dictionary with a key. Give one per row"),
        (pd.DataFrame([[1, 2]], columns=["a", "a "]), "several columns named 'a'"),
        (7, "type int. Give a path, a pandas DataFrame"),
        (b"a.csv", "type bytes"),
    ],
)
def test_what_is_no_table_is_refused(source, message):
    with pytest.raises(UserError, match=message):
        open_table(source)
