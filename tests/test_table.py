import csv
import io
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.config import TableConfig
from mmkeras.errors import UserError
from mmkeras.table import (
    Row,
    assign_splits,
    check_labels,
    iter_rows,
    read_rows,
    table_modalities,
)

CONFIG = TableConfig()


@pytest.fixture
def table(tmp_path):
    """Writes bytes or text to a file and returns its path."""

    def write(content):
        path = tmp_path / "data.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows_of(*labels, groups=None, splits=None):
    n = len(labels)
    return [
        Row(
            line=i + 2,
            id=str(i),
            cells={"text": "x"},
            labels=tuple(labels[i].split("|")),
            group=(groups or [""] * n)[i],
            split=(splits or [""] * n)[i],
        )
        for i in range(n)
    ]


# Reading ----------------------------------------------------------------------


def test_a_row_comes_with_its_cells_labels_split_and_group(table):
    path = table("text,image,label,id,split,group\nhi,a.png, x | y |,r7,Dev,g\n")
    assert list(iter_rows(path, CONFIG)) == [
        Row(
            line=2,
            id="r7",
            cells={"text": "hi", "image": "a.png"},
            labels=("x", "y"),
            split="val",
            group="g",
        )
    ]


def test_lines_count_newlines_inside_quotes_and_blank_lines(table):
    path = table('text,label\r\n"two\r\nlines, one cell",a\r\n\r\nlast,b\r\n  \r\n')
    rows = list(iter_rows(path, CONFIG))
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

    rows = list(iter_rows(path, CONFIG))

    expected = [tuple(c if c.strip() else "" for c in row) for row in cells]
    assert [(r.cells["text"], r.cells["image"]) for r in rows] == expected


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200), headed=st.booleans())
def test_any_bytes_are_rows_or_a_user_error(tmp_path_factory, content, headed):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"text,label\n" * headed + content)
    try:
        for row in iter_rows(path, CONFIG):
            (row.cells["text"] + row.id + row.group + "".join(row.labels)).encode()
    except UserError:
        pass


def test_a_cell_of_a_million_characters_is_read(table):
    rows = list(iter_rows(table("text,label\n" + "x" * 1_000_000 + ",a\n"), CONFIG))
    assert len(rows[0].cells["text"]) == 1_000_000


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"hi,a.png,", "label is missing"),
        (b"hi,a.png,|", "label is missing"),
        (b" ,,a", "no modality present"),
        (b"hi,a", "2 cells where the header has 3"),
        (b"hi,a,b,c", "4 cells where the header has 3"),
        (b"caf\xe9,a.png,a", "column 'text' has bytes that are not UTF-8"),
        (b"a\0b,a.png,a", "column 'text' has a NUL byte"),
    ],
)
def test_a_bad_row_has_a_problem_and_its_neighbours_have_none(table, line, problem):
    path = table(b"text,image,label\nhi,,a\n" + line + b"\nho,,b\n")
    first, bad, last = iter_rows(path, CONFIG)
    assert (first.problem, bad.problem, last.problem) == ("", problem, "")
    assert (last.line, last.id) == (4, "2")
    assert all(cell.isprintable() for cell in bad.cells.values())


def test_bytes_that_are_not_utf8_in_an_unused_column_do_no_harm(table):
    (row,) = iter_rows(table(b"text,label,note\nhi,a,caf\xe9\n"), CONFIG)
    assert row.problem == ""


def test_an_unknown_split_lists_the_known_ones(table):
    (row,) = iter_rows(table("text,label,split\nhi,a,holdout\n"), CONFIG)
    assert row.problem == "split is 'holdout' (allowed: train, val, test)"


def test_a_row_without_label_is_fine_where_none_is_asked_for(table):
    path = table("text\nhi\n" + '""\n')
    rows = list(iter_rows(path, CONFIG, labeled=False))
    assert [(r.cells["text"], r.problem) for r in rows] == [("hi", ""), ("", "")]


def test_an_unclosed_quote_names_the_line_of_its_row(table):
    path = table('text,label\nhi,a\n"ho,b\nhu,c\n')
    with pytest.raises(UserError, match="row starting at line 3"):
        list(iter_rows(path, CONFIG))


def test_the_later_of_two_equal_ids_names_the_line_of_the_first(table):
    rows = read_rows(table("text,label,id\na,x,7\nb,y,8\nc,x,7\nd,x,\n"), CONFIG)
    assert [row.problem for row in rows] == [
        "",
        "",
        "id '7' is already that of line 2",
        "id is missing",
    ]


def test_a_row_without_split_is_a_problem_where_others_have_one(table):
    rows = read_rows(table("text,label,split\na,x,train\nb,y,\n"), CONFIG)
    assert rows[1].problem == "split is missing, and other rows have one"


# Columns ----------------------------------------------------------------------


def test_modalities_are_those_asked_for_that_have_a_column(table):
    path = table("\ufeffaudio, text,label\na.wav,hi,x\n")
    assert table_modalities(path, CONFIG) == ("text", "audio")
    assert table_modalities(path, TableConfig(modalities="audio,image")) == ("audio",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("text,label\n", "a header and no rows"),
        ("words,label\nhi,a\n", "no column 'text' or 'image' or 'audio'"),
        ("Text,label\nhi,a\n", "Did you mean 'Text'?"),
        ("text,lable\nhi,a\n", "no column 'label'.*Did you mean 'lable'?"),
        ("text;label\nhi;a\n", "semicolons"),
        ("text\tlabel\nhi\ta\n", "tabs"),
        ("text,label,text\nhi,a,ho\n", "several columns named 'text'"),
        ("text,label\nhi,a\n".encode("utf-16"), "is UTF-16"),
        ("t\xe9xt,label\nhi,a\n".encode("latin-1"), "header that is not UTF-8"),
    ],
)
def test_a_table_without_the_columns_needed_is_refused(table, content, message):
    with pytest.raises(UserError, match=message):
        table_modalities(table(content), CONFIG)


def test_a_renamed_column_that_is_not_there_is_refused(table):
    path = table("text,photo_path,label\nhi,a.png,x\n")
    with pytest.raises(UserError, match="Did you mean 'photo_path'.*image_column"):
        table_modalities(path, TableConfig(image_column="photopath"))


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        table_modalities(tmp_path / "no.csv", CONFIG)
    with pytest.raises(UserError, match="is a folder"):
        list(iter_rows(tmp_path, CONFIG))


# Splits -----------------------------------------------------------------------


def test_shares_hold_for_the_table_and_for_each_class():
    rows = rows_of(*["a"] * 200, *["b"] * 100, *["c"] * 20)
    splits = assign_splits(rows, CONFIG, seed=3)
    for label, n in (("a", 200), ("b", 100), ("c", 20)):
        of = Counter(s for r, s in zip(rows, splits, strict=True) if label in r.labels)
        assert abs(of["train"] - 0.7 * n) <= 2, label
        assert abs(of["val"] - 0.15 * n) <= 2, label


def test_a_seed_gives_one_split_and_another_seed_another():
    rows = rows_of(*"ab" * 50)
    assert assign_splits(rows, CONFIG, 1) == assign_splits(rows, CONFIG, 1)
    assert assign_splits(rows, CONFIG, 1) != assign_splits(rows, CONFIG, 2)


@settings(max_examples=100, deadline=None)
@given(
    labels=st.lists(st.sampled_from(["a", "b", "c", "a|b", "d|e"]), min_size=3),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_no_group_straddles_and_every_split_has_a_row(labels, seed, data):
    names = st.sampled_from(["", "g", "h", "k"])
    groups = [data.draw(names) for _ in labels]
    rows = rows_of(*labels, groups=groups)
    if len(set(groups) - {""}) + groups.count("") < 3:
        with pytest.raises(UserError, match="at least 3 are needed"):
            assign_splits(rows, CONFIG, seed)
        return
    splits = assign_splits(rows, CONFIG, seed)
    assert set(splits) == {"train", "val", "test"}
    pairs = {(g, s) for g, s in zip(groups, splits, strict=True) if g}
    assert len(pairs) == len({g for g, _ in pairs})


def test_each_class_of_three_rows_is_learned_even_with_a_small_train_share():
    rows = rows_of(*[str(i // 3) for i in range(60)])
    config = TableConfig(val_share=0.3, test_share=0.3)
    splits = assign_splits(rows, config, 0)
    learned = {r.labels for r, s in zip(rows, splits, strict=True) if s == "train"}
    assert len(learned) == 20


def test_a_class_that_is_always_in_company_is_learned_too():
    rows = rows_of(*[f"rare|{i}" for i in range(3)], *[str(i) for i in range(57)])
    config = TableConfig(val_share=0.45, test_share=0.45)
    for seed in range(10):
        splits = assign_splits(rows, config, seed)
        assert "train" in splits[:3] and set(splits) == {"train", "val", "test"}


def test_a_group_larger_than_a_split_goes_to_train():
    groups = ["large"] * 300 + ["medium"] * 150 + [""] * 150
    splits = assign_splits(rows_of(*["a", "b"] * 300, groups=groups), CONFIG, 0)
    assert splits[0] == splits[300] == "train"
    assert min(Counter(splits).values()) >= 70


def test_shares_hold_for_groups_of_uneven_size():
    groups = [str(min(i % 97, i % 31)) for i in range(600)]
    rows = rows_of(*["a", "b"] * 300, groups=groups)
    counts = Counter(assign_splits(rows, CONFIG, 0))
    assert abs(counts["val"] - 90) <= 20 and abs(counts["test"] - 90) <= 20


def test_given_splits_are_kept_and_a_missing_one_is_taken_from_train():
    given = ["train"] * 80 + ["test"] * 20
    splits = assign_splits(rows_of(*"ab" * 50, splits=given), CONFIG, 0)
    assert splits[80:] == ["test"] * 20
    assert Counter(splits[:80]) == {"train": 68, "val": 12}
    whole = ["train", "val", "test"]
    assert assign_splits(rows_of(*"aba", splits=whole), CONFIG, 0) == whole


def test_given_splits_without_train_or_with_a_torn_group_are_refused():
    with pytest.raises(UserError, match="has the split train"):
        assign_splits(rows_of(*"ab", splits=["val", "test"]), CONFIG, 0)
    torn = rows_of(*"abc", splits=["train", "val", "test"], groups=["g", "g", ""])
    with pytest.raises(UserError, match="Group 'g' is in the splits train and val"):
        assign_splits(torn, CONFIG, 0)


def test_one_class_is_refused_and_classes_of_one_row_are_named():
    with pytest.raises(UserError, match="'a' only; .* at least two classes"):
        check_labels(rows_of(*"aaa"))
    assert check_labels(rows_of(*"aabb")) == []
    (warning,) = check_labels(rows_of("a", "a", "b", "c|a"))
    assert "2 classes" in warning and "'b', 'c'" in warning
    (many,) = check_labels(rows_of(*map(str, range(15))))
    assert "15 classes" in many and many.endswith("and 5 more.")
