import lzma

import pytest

from mmkeras.data.tables import BadCell, Embedded, Table
from mmkeras.data.tables.table import (
    clean_columns,
    convert_row,
    hash_files,
    table_errors,
)
from mmkeras.errors import UserError


def test_records_are_those_of_the_used_columns_in_the_order_of_the_table():
    requests = []

    def read(used):
        requests.append(used)
        yield 0, {}

    fields = {"name": "a", "folder": ".", "hash_content": str}
    table = Table(columns=("x", "y", "z"), read=read, **fields)
    assert list(table.records()) == list(table.records({"z", "x", "w"})) == [(0, {})]
    assert requests == [["x", "y", "z"], ["x", "z"]]


def test_a_value_that_is_no_cell_leaves_the_others_of_the_row_as_they_are():
    cell, bad = Embedded(file="a", column="x", row=0), BadCell(reason="is bad")
    row = convert_row({"x": cell, "y": {1}, "z": 1, "b": bad})
    assert row.pop("y").reason.startswith("is of type set") and not bad
    assert row == {"x": cell, "z": "1", "b": bad}


def test_columns_have_no_invisible_differences():
    assert clean_columns("a", ["\ufefftext ", 0, "", ""]) == ("text", "0", "", "")
    with pytest.raises(UserError, match="^a has several columns named 'x'. Rename"):
        clean_columns("a", ["x", "x\u200b"])


def test_a_hash_of_files_is_that_of_paths_in_the_folder(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = hash_files(["x"], str(tmp_path / "a"))
    (tmp_path / "a" / "x").rename(tmp_path / "b" / "x")
    assert hash_files(["x"], str(tmp_path / "b")) == first


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError(2, "No such file", "b"), "^b does not exist. Check"),
        (PermissionError(13, "Permission denied"), "^a cannot be read: Permission"),
        (EOFError("cut\nhere"), "^a cannot be unpacked: cut here. Copy"),
        (lzma.LZMAError("corrupt"), "^a cannot be unpacked: corrupt"),
    ],
)
def test_errors_of_files_name_the_table(error, message):
    with pytest.raises(UserError, match=message):
        with table_errors("a"):
            raise error
