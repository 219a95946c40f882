import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.config import Config, TableConfig
from mmkeras.data.columns import find_columns
from mmkeras.data.table import Row, iter_rows, read_rows
from mmkeras.data.tables import Embedded, open_table
from mmkeras.errors import UserError

CONFIG = TableConfig()
NOT_UTF_8 = "bytes that are not UTF-8 (save the table as UTF-8)"
TEXT, BOTH = ("text",), ("text", "image")


@pytest.fixture
def table(tmp_path):
    """Writes bytes or text to a file and returns its path."""

    def write(content):
        path = tmp_path / "data.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_row_has_its_cells_labels_split_and_group(table):
    path = table("text,image,label,id,split,group\nhi,a.png, x | y |,r7,Dev,g\n")
    cells = {"text": "hi", "image": "a.png"}
    columns = {"id": "r7", "labels": ("x", "y"), "split": "val", "group": "g"}
    columns |= {"label_cell": " x | y |", "has_label": True}
    assert list(iter_rows(path, CONFIG, BOTH)) == [Row(line=2, cells=cells, **columns)]


@pytest.mark.parametrize("setting", ["warm,cold", " warm , cold,"])
def test_several_columns_of_zeros_and_ones_are_labels(table, setting):
    path = table("text,warm,cold\nhi,1,0\nho,yes,true\nha,0,0\nhe,1,?\n")
    config = TableConfig(label=setting)
    rows = read_rows(path, config, TEXT)
    assert [row.labels for row in rows] == [("warm",), ("warm", "cold"), (), ()]
    assert [bool(row.problem) for row in rows] == [False, False, False, True]
    assert "column 'cold' is '?'" in rows[3].problem
    assert not next(iter_rows(path, config, TEXT, labeled=False)).problem


def test_a_missing_label_column_of_several_is_named(table):
    path = table("text,warm\nhi,1")
    with pytest.raises(UserError, match="no column 'cold'.*table.label"):
        list(iter_rows(path, TableConfig(label="warm,cold"), TEXT))


def test_a_label_column_can_have_a_comma_in_its_name(table):
    path = table('text,"a,b"\nhi,x\n')
    (row,) = iter_rows(path, TableConfig(label="a,b"), TEXT)
    assert row.labels == ("x",)


def test_an_empty_list_is_a_row_without_a_class(table):
    first, second = iter_rows(table('text,label\nhi,[]\nho,""\n'), CONFIG, TEXT)
    assert first.labels == () and not first.problem
    assert second.problem == "label is missing"


def test_a_list_in_a_cell_is_several_labels():
    labels = ["a"], ["a", "b"], [], [3, 20_000_000], [0.5], None
    rows = [{"text": "hi", "label": cell} for cell in labels]
    rows = list(iter_rows(rows, CONFIG, TEXT))
    expected = [("a",), ("a", "b"), (), ("3", "20000000"), ("0.5",), ()]
    assert [row.labels for row in rows] == expected
    assert [row.problem for row in rows] == [""] * 5 + ["label is missing"]


def test_label_columns_of_a_data_frame_are_read(table):
    rows = [{"text": "hi", "warm": True, "cold": 0.0, "box": {"x": 1}}]
    (row,) = iter_rows(rows, TableConfig(label="warm,cold"), TEXT)
    assert row.labels == ("warm",) and not row.problem


def test_invisible_characters_change_no_label_split_or_group(table):
    path = table(
        "text,label,split,group\nhi,cat\u200b,train\ufeff,g\u200b\nho,Cat,val,g\n"
    )
    first, second = iter_rows(path, CONFIG, TEXT)
    assert (first.labels, first.split, first.group) == (("cat",), "train", "g")
    assert (second.labels, second.group) == (("Cat",), "g")
    _, second = iter_rows(path, TableConfig(join_labels=True), TEXT)
    assert second.labels == ("cat",)


def test_invisible_characters_change_no_column_and_no_id(table):
    path = table("\ufeff\ufefftext,label\u200b,id,split\nhi,a,x,\u200b\nho,b,x\ufeff,")
    first, second = read_rows(path, TableConfig(label="label \u200b"), TEXT)
    assert (first.labels, first.split, first.problem) == (("a",), "", "")
    assert "is already that of line 2" in second.problem
    with pytest.raises(UserError, match="several columns named 'text'"):
        open_table(table("text,text\u200b,label\nhi,ho,a\n"))


def test_lines_count_newlines_inside_quotes_and_blank_lines(table):
    path = table('text,label\r\n"two\r\nlines, one cell",a\r\n\r\nlast,b\r\n  \r\n')
    rows = list(iter_rows(path, CONFIG, TEXT))
    assert [(row.line, row.id) for row in rows] == [(2, "0"), (5, "1")]
    assert rows[0].cells["text"] == "two\r\nlines, one cell"


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=150, deadline=None)
@given(
    cells=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
)
def test_what_csv_writes_is_read_back(tmp_path_factory, cells, end, bom):
    text = io.StringIO()
    # Left to itself, csv quotes only the newlines that end its own lines.
    has_newline = any("\r" in cell or "\n" in cell for row in cells for cell in row)
    quoting = csv.QUOTE_ALL if has_newline else csv.QUOTE_MINIMAL
    writer = csv.writer(text, lineterminator=end, quoting=quoting)
    writer.writerows([("text", "image", "label"), *((*row, "x") for row in cells)])
    path = tmp_path_factory.getbasetemp() / "round_trip.csv"
    path.write_bytes(text.getvalue().encode("utf-8-sig" if bom else "utf-8"))

    rows = list(iter_rows(path, CONFIG, BOTH))

    expected = [tuple(c if c.strip() else "" for c in row) for row in cells]
    assert [(r.cells["text"], r.cells["image"]) for r in rows] == expected


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200), headed=st.booleans())
def test_any_bytes_are_rows_or_a_user_error(tmp_path_factory, content, headed):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"text,label\n" * headed + content)
    try:
        for row in iter_rows(path, CONFIG, TEXT):
            (row.cells["text"] + row.id + row.group + "".join(row.labels)).encode()
    except UserError:
        pass


def test_a_cell_of_a_million_characters_is_read(table):
    rows = list(
        iter_rows(table("text,label\n" + "x" * 1_000_000 + ",a\n"), CONFIG, TEXT)
    )
    assert len(rows[0].cells["text"]) == 1_000_000


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"hi,a.png,,2,val,", "label is missing"),
        (b"hi,a.png,|,2,val,", "label is missing"),
        ("hi,a.png,\u200b,2,val,".encode(), "label is missing"),
        (b" ,,a,2,val,", "no modality present"),
        (b"hi,,a,,val,", "id is missing"),
        (b"hi,,a,2,holdout,", "split is 'holdout' (allowed: train, val, test)"),
        (b"hi,a", "2 cells where the header has 6"),
        (b"hi,a,b,c,d,e,f", "7 cells where the header has 6"),
        (b"caf\xe9,a.png,a,2,val,", "column 'text' has " + NOT_UTF_8),
        (b"caf\xe9,,a,2,val,", "column 'text' has " + NOT_UTF_8),
        (b"hi,a.png,caf\xe9,2,val,", "column 'label' has " + NOT_UTF_8),
        (b"a\0b,a.png,a,2,val,", "column 'text' has a NUL byte"),
        (b"hi,,a,2,val,caf\xe9", ""),  # in a column that is not used
    ],
)
def test_a_bad_row_has_a_problem_and_the_others_have_none(table, line, problem):
    header = b"text,image,label,id,split,note\n"
    path = table(header + b"hi,,a,1,val,\n" + line + b"\nho,,b,3,val,\n")
    first, bad, last = iter_rows(path, CONFIG, BOTH)
    assert (first.problem, bad.problem, last.problem) == ("", problem, "")
    assert (last.line, last.id) == (4, "3")
    assert all(cell.isprintable() for cell in bad.cells.values())


def test_a_row_without_label_is_usable_if_unlabeled(table):
    path = table("text\nhi\n" + '""\n')
    rows = list(iter_rows(path, CONFIG, TEXT, labeled=False))
    assert [(r.cells["text"], r.problem) for r in rows] == [("hi", ""), ("", "")]


def test_an_unclosed_quote_is_reported_with_the_line_of_its_row(table):
    path = table('text,label\nhi,a\n"ho,b\nhu,c\n')
    with pytest.raises(UserError, match="row starting at line 3"):
        list(iter_rows(path, CONFIG, TEXT))


def test_a_repeated_id_and_a_missing_split_are_problems(table):
    rows = read_rows(table("text,label,id\na,x,7\nb,y,8\nc,x,7\n"), CONFIG, TEXT)
    problems = [row.problem for row in rows]
    assert problems == ["", "", "id '7' is already that of line 2"]
    rows = read_rows(table("text,label,split\na,x,train\nb,y,\n"), CONFIG, TEXT)
    assert rows[1].problem.startswith("split is missing")


def test_rows_may_share_an_id_where_several_are_one_row_later(table):
    path = table("text,label,id,split\na,x,7,train\nb,y,7,\n")
    first, second = read_rows(path, CONFIG, TEXT, unique_ids=False)
    assert (first.id, first.problem) == ("7", "")
    assert second.problem == "split is missing, and other rows have one"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("text,label\n", "no rows"),
        ("words,label\nhi,a\n", "no column that the model can use"),
        ("Text,label\nhi,a\n", "Did you mean 'Text'?"),
        ("text,lable\nhi,a\n", "no column 'label'.*Did you mean 'lable'?"),
        ("text,label,text\nhi,a,ho\n", "several columns named 'text'"),
        ("text,label\nhi,a\n".encode("utf-16"), "UTF-16.*UTF-8"),
        ("t\xe9xt,label\nhi,a\n".encode("latin-1"), "header .* not UTF-8"),
    ],
)
def test_a_table_without_the_required_columns_is_refused(table, content, message):
    with pytest.raises(UserError, match=message):
        config, _ = find_columns(table(content), Config())
        list(iter_rows(table(content), CONFIG, list(config.columns)))


def test_other_separators_and_formats_give_the_same_rows(table):
    contents = ("text,label\nhi,a|b\n", "text;label\nhi;a|b\n", "text\tlabel\nhi\ta|b")
    contents += (b'\n{"text": "hi", "label": "a|b"}\n',)
    rows = [list(iter_rows(table(content), CONFIG, TEXT)) for content in contents]
    assert rows[0] == rows[1] == rows[2] == rows[3]
    assert rows[0][0].labels == ("a", "b")


def test_a_value_of_an_unknown_type_matters_only_in_a_column_that_is_used():
    rows = [{"text": "hi", "label": "a", "boxes": {"x": [[1]]}}]
    assert next(iter_rows(rows, CONFIG, TEXT)).problem == ""
    rows[0]["label"] = {"x": 1}
    assert "column 'label'" in next(iter_rows(rows, CONFIG, TEXT)).problem


def test_a_bad_cell_of_any_used_column_is_a_problem_of_its_row():
    rows = [
        {"text": ["a\ud800b", "c"], "warm": 1, "cold": 0},
        {"text": ["a\0b"], "warm": 1, "cold": 0},
        {"text": "hi", "warm": {"x": 1}, "cold": 0},
        {"text": "hi", "warm": 0, "cold": 1},
    ]
    rows = list(iter_rows(rows, TableConfig(label="warm,cold"), TEXT))
    problems = [row.problem.partition(" (")[0] for row in rows]
    assert problems == [
        "column 'text' has half a character",
        "column 'text' has a NUL byte",
        "column 'warm' is a dictionary with the keys x",
        "",
    ]
    assert rows[3].labels == ("cold",)


def test_an_embedded_label_that_cannot_be_read_is_a_problem_of_its_row(tmp_path):
    label = Embedded(file=str(tmp_path / "no.arrow"), column="label", row=0)
    (row,) = iter_rows([{"text": "hi", "label": label}], CONFIG, TEXT)
    assert "column 'label'" in row.problem and "no.arrow" in row.problem


def test_a_renamed_column_that_is_missing_is_refused(table):
    path = table("text,photo_path,label\nhi,a.png,x\n")
    with pytest.raises(UserError, match="Did you mean 'photo_path'.*image"):
        find_columns(path, Config(table=TableConfig(image="photopath")))


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UserError, match="no.csv does not exist"):
        open_table(tmp_path / "no.csv")
    with pytest.raises(UserError, match="is a folder"):
        list(iter_rows(tmp_path, CONFIG, TEXT))
