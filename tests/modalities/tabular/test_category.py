import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config.tabular import TabularConfig
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.preprocessing_state import count_rows
from mmkeras.modalities.tabular.category import Category

FILES = FileReader(folder=".", max_file_mb=1)


def make(**settings):
    return Category("color", TabularConfig(**settings))


def fit(column, cells):
    tokens = column.statistics().tokens(tf.constant(cells)).to_list()
    return column.fit(count_rows(tokens))


def test_categories_are_ordered_by_rows_and_rare_ones_are_unseen():
    cells = ["red", "blue", " red ", "green", "blue", "red", "", ""]
    column = make(min_rows=2)
    assert column.statistics().min_rows == 2
    state = fit(column, cells)
    assert state == {"categories": ["red", "blue"]}
    indices = column.indices(tf.constant([*cells, "  "]), state)
    assert indices.dtype == tf.int32
    np.testing.assert_array_equal(indices, [2, 3, 2, 1, 3, 2, 0, 0, 0])


def test_only_the_most_frequent_categories_are_kept():
    state = fit(make(max_categories=1, min_rows=1), ["b", "a", "b"])
    assert state == {"categories": ["b"]}


def test_a_column_that_training_rows_lack_has_unseen_values_only():
    column = make()
    state = fit(column, ["", ""])
    assert state == {"categories": []}
    np.testing.assert_array_equal(column.indices(tf.constant(["", "a"]), state), [0, 1])


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (" deep   red ", "deep red"),
        ("\ufeffcafe\u0301", "café"),
        (b"red", "red"),
    ],
)
def test_invisible_differences_are_dropped(cell, name):
    column = make()
    data = column.read(cell, FILES).data
    assert data == name.encode()
    assert column.indices(tf.constant([data]), {"categories": [name]})[0] == 2


def test_blanks_of_a_served_value_are_dropped_too():
    state = {"categories": ["deep red"]}
    assert make().indices(tf.constant([" deep \t red\n"]), state)[0] == 2


def test_a_cell_without_a_visible_character_is_unreadable():
    with pytest.raises(Unreadable, match="no visible character"):
        make().read("\u200b", FILES)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["red", "blue", "red", " blue"], "2 distinct values"),
        (["1", "2", "1", "2"], "2 distinct values"),
        (["true", "false"] * 2, "2 distinct values"),
        ([str(i % 20) for i in range(60)], ""),  # numbers
        (["0.5", "1.5"] * 9, ""),
        (["red", "blue", "green"], ""),  # all different
        (["red"] * 9, ""),
        ([f"word{i % 51}" for i in range(200)], ""),
        (["a long sentence, which is no name, " * 3, "b"] * 3, ""),
        ([], ""),
    ],
)
def test_columns_of_few_repeated_values_are_recognised(cells, reason):
    assert Category.recognise(cells, FILES) == reason
