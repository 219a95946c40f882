import bz2
import gzip
import io
import lzma
import os

import pytest

from mmkeras.data.tables import content as contents
from mmkeras.data.tables import open_table
from mmkeras.errors import UserError

CSV = b"text;label\nhi;a\n"
PACKERS = [gzip.compress, bz2.compress, lzma.compress]


class Stream(io.TextIOWrapper):
    """Standard input of some bytes."""

    def __init__(self, data, *, is_terminal=False):
        super().__init__(io.BytesIO(data))
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("data", [CSV, b'{"text": "hi", "label": "a"}\n'])
def test_a_compressed_table_is_unpacked(tmp_path, pack, data):
    (tmp_path / "data.csv.gz").write_bytes(pack(data))
    table = open_table(tmp_path / "data.csv.gz")
    rows = [row for _, row in table.records()]
    assert rows == [{"text": "hi", "label": "a"}]
    assert table.folder == str(tmp_path)


@pytest.mark.parametrize("pack", PACKERS)
def test_an_archive_that_is_cut_is_refused(tmp_path, pack):
    (tmp_path / "data.csv.gz").write_bytes(pack(CSV * 1000)[:-30])
    with pytest.raises(UserError, match="cannot be (unpacked|read)"):
        list(open_table(tmp_path / "data.csv.gz").records())


@pytest.mark.parametrize("pack", PACKERS)
def test_a_table_that_is_compressed_twice_is_refused(tmp_path, pack):
    (tmp_path / "data.csv.gz").write_bytes(pack(gzip.compress(CSV)))
    with pytest.raises(UserError, match="is compressed twice. Unpack it once"):
        open_table(tmp_path / "data.csv.gz")


def test_a_header_like_the_mark_of_bzip2_is_a_header(tmp_path):
    (tmp_path / "data.csv").write_text("BZh9,x\n1,2\n")
    assert open_table(tmp_path / "data.csv").columns == ("BZh9", "x")


def test_the_standard_input_is_copied_once(monkeypatch):
    monkeypatch.setattr("sys.stdin", Stream(CSV))
    tables = [open_table("-"), open_table("-")]
    assert [list(table.records()) for table in tables] == [
        [(2, {"text": "hi", "label": "a"})]
    ] * 2
    assert (tables[0].name, tables[0].folder) == ("-", ".")
    assert "';'" in tables[0].note and "temporary file" in tables[0].note
    os.remove(contents.open_content("-").raw)


def test_a_terminal_is_no_table(monkeypatch):
    monkeypatch.setattr("sys.stdin", Stream(b"", is_terminal=True))
    with pytest.raises(UserError, match="terminal here. Pipe a table"):
        open_table("-")


def test_a_remote_table_is_read_once(monkeypatch):
    reads = []

    def read(path):
        reads.append(path)
        return gzip.compress(CSV)

    monkeypatch.setattr(contents, "read_remote", read)
    table = open_table("gs://bucket/rows/data.csv.gz")
    assert [row for _, row in table.records()] == [{"text": "hi", "label": "a"}]
    assert table.folder == "gs://bucket/rows" and len(table.fingerprint()) == 64
    assert reads == ["gs://bucket/rows/data.csv.gz"]
