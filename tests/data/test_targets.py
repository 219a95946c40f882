"""Targets of the tasks: numbers, questions and refusals, and strata."""

from collections import Counter

import pytest

from mmkeras.config import TableConfig
from mmkeras.data.splits import assign_splits, check_labels
from mmkeras.data.table import Row
from mmkeras.data.targets import check_task, parse_number, stratify, with_targets
from mmkeras.errors import UserError


def rows_of(*cells):
    return [
        Row(line=i, id=str(i), cells={}, label_cell=c, labels=tuple(c.split("|")))
        for i, c in enumerate(cells, 2)
    ]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        (" 1.50 ", 1.5),
        ("-2e3", -2000.0),
        ("0", 0.0),
        ("1_000", None),
        ("1,5", None),
        ("nan", None),
        ("inf", None),
        ("1e39", None),  # infinite in float32
        ("12 kg", None),
    ],
)
def test_a_number_is_finite_in_float32(cell, number):
    assert parse_number(cell) == number


def test_a_label_of_regression_is_a_number_in_one_form():
    good, bad, rejected = with_targets(
        [*rows_of("1e1", "ten"), Row(line=4, id="4", cells={}, problem="no text")],
        "regression",
    )
    assert good.labels == ("10",) and not good.problem
    assert "'ten'" in bad.problem and "number" in bad.problem
    assert rejected.problem == "no text"
    assert with_targets(rows_of("ten"), "auto") == rows_of("ten")


def test_many_fractions_are_a_question_with_both_answers():
    with pytest.raises(UserError) as error:
        check_task(rows_of(*(f"{i / 2:g}" for i in range(79))), "auto")
    text = str(error.value)
    assert "79" in text and "0.5" in text
    assert "--task regression" in text and "--task multiclass" in text


@pytest.mark.parametrize(
    "cells",
    [
        [f"{i / 2:g}" for i in range(20)],  # few enough to be classes
        [str(i) for i in range(79)],  # integers are the names of classes
        [f"{i / 2:g}" for i in range(79)] + ["other"],
        [f"{i / 2:g}|x" for i in range(79)],
    ],
)
def test_other_labels_are_classes_without_a_question(cells):
    check_task(rows_of(*cells), "auto")


@pytest.mark.parametrize(
    ("task", "cells", "words"),
    [
        ("binary", ["a", "b", "c"], ["3", "'c'", "--task multiclass"]),
        ("binary", ["a", "a|b"], ["line 3", "'a|b'", "--task multilabel"]),
        ("multiclass", ["a", "b|c"], ["line 3", "'b|c'", "--task multilabel"]),
    ],
)
def test_labels_that_do_not_fit_the_task_are_refused(task, cells, words):
    with pytest.raises(UserError) as error:
        check_task(rows_of(*cells), task)
    assert all(word in str(error.value) for word in words)


def test_one_number_for_all_rows_is_refused():
    rows = with_targets(rows_of("7", "7.0"), "regression")
    with pytest.raises(UserError, match="'7'.*Check the label column"):
        check_labels(rows, "regression")


def test_regression_has_no_warning_of_classes():
    rows = with_targets(rows_of("1", "2.5", "3"), "regression")
    assert check_labels(rows, "regression") == []


def test_a_label_column_of_zeros_is_a_warning():
    (warning,) = check_labels(rows_of("a", "b", "a", "b"), "auto", ("a", "b", "c"))
    assert "'c'" in warning and "0 in all rows" in warning
    assert check_labels(rows_of("a", "b") * 2, "auto", ("x", "y")) == []


def test_each_split_has_rows_of_each_tenth_of_the_numbers():
    rows = with_targets(
        rows_of(*(str((i * 37) % 200) for i in range(200))), "regression"
    )
    splits = assign_splits(stratify(rows, "regression"), TableConfig(), seed=0)
    tenths = {name: Counter() for name in ("train", "val", "test")}
    for row, split in zip(rows, splits, strict=True):
        tenths[split][int(row.labels[0]) // 20] += 1
    assert set(tenths["train"].values()) == {14}
    assert set(tenths["val"].values()) == set(tenths["test"].values()) == {3}


def test_few_rows_have_few_strata():
    rows = with_targets(rows_of(*"1234567"), "regression")
    assert [r.labels[0] for r in stratify(rows, "regression")] == list("0000111")
    assert stratify(rows_of("a"), "auto") == rows_of("a")
