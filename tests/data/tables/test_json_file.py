import io
import json

import numpy as np
import pytest

from mmkeras.data.tables import open_table
from mmkeras.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(text, name="data.jsonl"):
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
        return tmp_path / name

    return write


def test_an_object_per_line_is_a_row_with_its_line(write):
    path = write(
        '\ufeff{"text": "h\u00e9", "label ": "a"}\r\n\r\n{"id": 7, "text": null}\n'
        '{"text": \n[1]\n{"text": {"x": 1}}\n'
    )
    table = open_table(path)
    assert (table.columns, table.unit) == (("text", "label", "id"), "line")
    first, second, *others = table.records()
    assert first == (1, {"text": "h\u00e9", "label": "a", "id": ""})
    assert second == (3, {"text": "", "label": "", "id": "7"})
    assert [line for line, _ in others] == [4, 5, 6]
    problems = [problem for _, problem in others]
    assert problems[0] == "is not JSON: Expecting value at column 9"
    assert problems[1] == "is of type list, not a JSON object"
    assert problems[2]["text"].reason.startswith("is a dictionary with the keys x")
    assert problems[2]["id"] == ""


def test_a_vector_and_several_paths_are_cells(write):
    path = write('{"text": [0.5, 2], "image": ["a.png", "b.png"]}\n')
    ((_, row),) = open_table(path).records()
    assert list(np.load(io.BytesIO(row["text"]))) == [0.5, 2]
    assert row["image"] == ("a.png", "b.png")


def test_a_first_line_that_is_broken_is_a_row_of_its_own(write):
    path = write('{"text": "hi", "label":\n\n{"text": "ho", "label": "a"}\n')
    first, second = open_table(path).records()
    assert first == (1, "is not JSON: Expecting value at column 24")
    assert second == (3, {"text": "ho", "label": "a"})


@pytest.mark.parametrize(
    "text", ['[\n{"text": "hi"}\n]\n', '{"text": [\n{"bytes": null, "path": "hi"}\n]}']
)
def test_an_object_inside_brackets_is_no_line(write, text):
    assert list(open_table(write(text)).records()) == [(0, {"text": "hi"})]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_of_objects_and_an_object_of_lists_are_tables(write, indent):
    rows = [{"text": "hi", "label": "a"}, {"text": "ho"}]
    table = open_table(write(json.dumps(rows, indent=indent), "data.json"))
    assert [row["label"] for _, row in table.records()] == ["a", ""]
    assert table.unit == "row"
    columns = {"text": ["hi", "ho"], "label": ["a", "b"]}
    by_index = {name: dict(enumerate(column)) for name, column in columns.items()}
    for content in (columns, by_index):  # the second is what pandas' to_json writes
        table = open_table(write(json.dumps(content, indent=indent), "data.json"))
        assert list(table.records())[1] == (1, {"text": "ho", "label": "b"})


def test_one_row_without_a_name_that_says_json_is_a_line(write):
    row = {"photo": ["a.png", "b.png"], "clip": ["a.wav", "b.wav"]}
    table = open_table(write(json.dumps(row), "rows.ndjson"))
    assert [record for _, record in table.records()] == [
        {"photo": ("a.png", "b.png"), "clip": ("a.wav", "b.wav")}
    ]
    one = {name: {"0": "x"} for name in row}  # pandas' to_json of one row
    table = open_table(write(json.dumps(one), "data.json"))
    assert [record for _, record in table.records()] == [{"photo": "x", "clip": "x"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"text": "hi"},\n', "is not JSON.*one object per line"),
        ("{}\n{}\n", "no JSON object with a key"),
        ('[{"text": "hi"}, 1', "is not JSON"),
        ('[\n{"text": hi},\n', "Expecting value at column 10 in line 2. Write"),
        ('{\n"text": "hi"\n}\n', "column 'text' is a str"),
        ('{"text": "hi", "text ": "ho"}\n', "several columns named 'text'"),
    ],
)
def test_a_file_without_rows_is_refused(write, text, message):
    path = write(text)
    with pytest.raises(UserError, match=message) as error:
        open_table(path)
    assert str(path) in str(error.value)
