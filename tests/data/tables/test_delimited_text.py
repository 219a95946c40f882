import csv
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmkeras.data.tables import open_table
from mmkeras.data.tables.delimited_text import SEPARATORS, choose_separator
from mmkeras.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(content, name="data.csv"):
        (tmp_path / name).write_bytes(content.encode())
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("text,label\nhi; you,a\n", ","),
        ("text;label\nhi, you;a\nhi, he;b\n", ";"),
        ("text\tlabel\nhi, you; he\ta\n", "\t"),
        ("text|label\nhi, you|a\n", "|"),
        ("text,label\nhi,a | b\nho,c | d\n", ","),
        ("price;text\n1,5;hi\n2,5;ho\n", ";"),
        ('"text;,|\t";label\n"a;b";x\n', ";"),
        ('"text;more",label\n"a;b",x\n', ","),
        ("price (a, b);text;label\n1,5;hi;x\n2;ho, you, he;y\n", ";"),
        ("text;label\n", ";"),
        ('"text"\t"image; file"\n""\t";"\n', "\t"),
        ('text;label, one\na;b\nc;"d\n', ";"),
        ('text;label, one\na;b, c\n"x";y\n', ";"),
        ("text\nhi, you\n", ","),
        ("text\nhi; you\n", ","),
        ("cats|dogs\nhi\nho\n", ","),
        ("text,label\nhi, you,a\n", ","),
        ('text;label\n"two\nlines, here";a\n', ";"),
        ("a,b;c\n1,2;3\n", ","),
        ("", ","),
        ("\n\n", ","),
    ],
)
def test_the_separator_is_that_of_most_rows(text, separator):
    assert choose_separator(text.splitlines(keepends=True)) == separator


def test_the_suffix_tsv_decides_between_equals(write):
    path = write("a,b\tc\n1,2\t3\n", "data.tsv")
    assert open_table(path).columns == ("a,b", "c")


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_table_has_its_lines_and_a_note(write, separator):
    header, row = separator.join(["text", " label "]), separator.join(['"a\nb"', "x"])
    table = open_table(write(f"\ufeff{header}\n\n{row}\nalone\n"))
    assert (table.columns, table.unit) == (("text", "label"), "line")
    assert list(table.records()) == [
        (3, {"text": "a\nb", "label": "x"}),
        (5, "1 cells where the header has 2"),
    ]
    notes = {",": "", "\t": "separated by tabs"}
    assert table.note == notes.get(separator, f"separated by '{separator}'")


def test_a_long_cell_at_the_start_hides_no_separator(write):
    table = open_table(write("text;label\n" + "x, " * 50_000 + ";a\n"))
    assert [row["label"] for _, row in table.records()] == ["a"]


def test_long_cells_are_read_and_the_limit_of_csv_stays_as_it_was(write):
    table, before = open_table(write("a,b\n" + 2 * f"x,{'y' * 200_000}\n")), 1000
    csv.field_size_limit(before)
    try:
        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(lambda _: list(table.records()), range(8)))
        assert csv.field_size_limit() == before
        records = table.records()
        next(records)
        assert csv.field_size_limit() == before  # also while it is read
    finally:
        csv.field_size_limit(131_072)
    assert all([len(row["b"]) for _, row in part] == [200_000] * 2 for part in parts)


def test_the_fingerprint_is_that_of_the_bytes(write):
    first = open_table(write("text\na\n")).fingerprint()
    assert open_table(write("text\na\n", "b.csv")).fingerprint() == first
    assert open_table(write("text\nb\n")).fingerprint() != first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty. Its first line"),
        ("text;text\na;b\n", "several columns named 'text'.*Rename"),
        ('text;label\n"a;b\n', "line 2.*Close each quoted cell"),
    ],
)
def test_a_broken_table_is_refused(write, text, message):
    with pytest.raises(UserError, match=message):
        list(open_table(write(text)).records())
