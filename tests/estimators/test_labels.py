import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mmkeras.errors import UserError
from mmkeras.estimators.labels import (
    LabelForm,
    label_form,
    named_columns,
    row_labels,
)

FRAME = pd.DataFrame({"text": ["a", "b", "c"], " y ": [1, 0, 1]})


@pytest.mark.parametrize(
    "table",
    [
        FRAME,
        FRAME.to_dict("list"),
        FRAME.to_dict("records"),
        pa.Table.from_pandas(FRAME),
    ],
)
def test_a_column_of_a_table_in_memory_keeps_its_type(table):
    assert label_form(table, "y", None) == LabelForm(type="int")
    assert label_form(table, "text", None) == LabelForm()
    assert label_form(table, "other", None) == LabelForm()


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([1, 0, None], ["0", "1"], [0, 1]),
        (np.array([True, False]), ["false", "true"], [False, True]),
        (pd.Series([1, None, 3], dtype="Int8"), ["1", "3"], [1, 3]),
        (np.array([0.5, 1]), ["0.5", "1.0"], [0.5, 1.0]),
        ([[1, 2], [2], []], ["1", "2"], [1, 2]),
        ([1, "x"], ["1", "x"], ["1", "x"]),
        (["1", "0"], ["0", "1"], ["0", "1"]),
        ([1, 0], ["1", "of validation rows"], ["1", "of validation rows"]),
    ],
)
def test_classes_have_the_type_of_the_labels(labels, names, expected):
    classes = label_form("rows.csv", "label", labels).convert(names)
    assert classes.tolist() == expected
    assert list(map(type, classes.tolist())) == list(map(type, expected))


def test_classes_are_spelled_as_the_labels_if_these_agree():
    form = label_form(None, "y", ["new  york ", "new  york ", "rome", " a", "a"])
    assert form.convert(["a", "new york", "rome"]).tolist() == [
        "a",
        "new  york ",
        "rome",
    ]


def test_a_matrix_of_0_and_1_has_a_class_per_column():
    matrix = np.array([[0, 1], [1, 1], [0, 0]])
    assert row_labels(matrix) == [["1"], ["0", "1"], []]
    assert label_form(None, "y", matrix) == LabelForm(type="int", indicators=("0", "1"))
    frame = pd.DataFrame(matrix == 1, columns=["cat", "dog"])
    assert row_labels(frame) == [["dog"], ["cat", "dog"], []]
    assert label_form(None, "y", frame) == LabelForm(indicators=("cat", "dog"))


def test_a_matrix_of_one_column_is_a_vector_and_texts_are_several_labels():
    assert row_labels(np.array([[1], [0]])) == [1, 0]
    assert row_labels(FRAME[[" y "]]) == [1, 0, 1]
    assert row_labels(np.array([["a", "b"]])) == [["a", "b"]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[0.2, 0.8]]), r"shape \(1, 2\) have other values than 0 and 1"),
        (FRAME, "other values than 0 and 1"),
        (pd.DataFrame({"a|b": [0], "c": [1]}), "a column 'a|b', whose name"),
        (5, "label cannot be of type int"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(UserError, match=message):
        row_labels(labels)


def test_a_list_names_columns_if_all_are_there():
    assert named_columns(FRAME, "other") == "other"
    assert named_columns(FRAME, ["text", "y"]) == "text,y"
    for labels in (["text", "text"], ["text", "x"], [], [1, 2], np.array(["text"])):
        assert named_columns(FRAME, labels) is None
