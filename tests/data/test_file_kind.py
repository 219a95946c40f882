import io
import pickle
import sqlite3
import zipfile

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmkeras.config import TableConfig
from mmkeras.data.file_kind import is_json, is_parquet, other_kind
from mmkeras.data.table import read_rows
from mmkeras.errors import UserError
from mmkeras.files import csv_text

CSV = b"text,label\nhello,a\nworld,b\n"


def archive(*members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        for name, text in members:
            content.writestr(name, text)
    return file.getvalue()


def array():
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def database(tmp_path):
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("create table rows (text, label)")
    connection.close()
    return (tmp_path / "a.db").read_bytes()


KINDS = {
    "an Arrow (Feather) file": b"ARROW1\0\0",
    "an Excel workbook": archive(("[Content_Types].xml", ""), ("xl/workbook.xml", "")),
    "an OpenDocument": archive(
        ("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    ),
    "an Excel workbook of an old": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "a ZIP archive": archive(("data.csv", CSV)),
    "compressed by Zstandard": b"\x28\xb5\x2f\xfd\x04",
    "a NumPy array": array(),
    "a Python pickle": pickle.dumps([1, 2]),
    "HTML or XML": b"<!DOCTYPE html><html></html>",
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_file_is_named_with_the_remedy(kind, tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(KINDS[kind])
    with pytest.raises(UserError) as error:
        read_rows(path, TableConfig(), ["text"])
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{path} is {kind}")
    assert all(name in line for name in ("CSV", "JSON Lines", "Parquet"))
    assert line.endswith(("Save it as CSV in UTF-8.", "Unpack it first."))


def test_a_database_is_named(tmp_path):
    assert other_kind(database(tmp_path)).startswith("an SQLite database, which")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b'{"text": "a"}\n', (True, False)),
        (b'\xef\xbb\xbf[\n  {"text": "a"}]', (True, False)),
        (b"{}\n", (True, False)),
        (b"PAR1\x15\x04", (False, True)),
        (b"PAR1,label\n", (False, False)),
    ],
)
def test_json_and_parquet_are_known_by_their_start(head, expected):
    assert (is_json(head), is_parquet(head)) == expected
    assert other_kind(head) == ""


@pytest.mark.parametrize("name", ["data.jsonl", "data.csv.gz", "data.xlsx"])
def test_a_csv_is_read_whatever_its_name(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(CSV)
    assert [row.labels for row in read_rows(path, TableConfig(), ["text"])] == [
        ("a",),
        ("b",),
    ]


NAMES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=12)


@given(names=st.lists(NAMES.filter(lambda name: name[0].isalnum()), min_size=1))
@example(names=["PAR1", "x"])
@example(names=["BZh1", "ARROW1"])
def test_a_header_of_ordinary_names_is_a_csv(names):
    head = csv_text([names, names]).encode()
    assert other_kind(head) == "" and not is_json(head) and not is_parquet(head)
