"""Targets of the tasks: numbers, questions and refusals, and strata."""

from collections import Counter

import pytest

from mmkeras.config import Config, TableConfig
from mmkeras.data.splits import assign_splits, check_labels
from mmkeras.data.table import Row
from mmkeras.data.targets import (
    check_task,
    read_labeled_rows,
    stratify,
    with_targets,
)
from mmkeras.errors import UserError


def rows_of(*cells):
    return [
        Row(line=i, id=str(i), cells={}, label_cell=c, labels=tuple(c.split("|")))
        for i, c in enumerate(cells, 2)
    ]


@pytest.mark.parametrize(
    ("cell", "label"),
    [
        (" 1.50 ", "1.5"),
        ("-2e3", "-2000"),
        ("0", "0"),
        ("1,5", "1.5"),
        ("1.234,5", "1234.5"),
        ("0.1234567891", "0.1234567891"),  # not rounded to float32
    ],
)
def test_a_label_of_regression_is_read_as_a_number_of_a_column(cell, label):
    (row,) = with_targets(rows_of(cell), "regression")
    assert (row.labels, row.problem) == ((label,), "")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("1_000", "label: not a number: '1_000'"),
        ("12 kg", "label: not a number: '12 kg'"),
        ("nan", "label: not a number: 'nan'"),
        ("inf", "label: not finite"),
        ("1e39", "label: not finite"),  # in float32
        ("1,234", "label: '1,234' is ambiguous"),
    ],
)
def test_the_reason_names_why_a_label_is_no_target(cell, reason):
    (row,) = with_targets(rows_of(cell), "regression")
    assert row.problem.startswith(reason)


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


@pytest.mark.parametrize("digits", [1, 3])
def test_many_numbers_with_a_decimal_comma_are_a_question_too(digits):
    cells = [f"{i}.{'5' * digits}".replace(".", ",") for i in range(40)]
    with pytest.raises(UserError, match="40 different numbers, such as '?0,5.*regress"):
        check_task(rows_of(*cells), "auto")


@pytest.mark.parametrize("others", [["nan"], ["?", "n/a", "unknown"]])
def test_a_few_words_do_not_hide_that_labels_are_numbers(others):
    cells = [*(f"{i / 2:g}" for i in range(79)), *others]
    with pytest.raises(UserError, match="are 79 different numbers, such as 0.5"):
        check_task(rows_of(*cells), "auto")


@pytest.mark.parametrize(
    "cells",
    [
        [f"{i / 2:g}" for i in range(20)],  # few enough to be classes
        [str(i) for i in range(79)],  # integers are the names of classes
        [f"{i / 2:g}" for i in range(79)] + [f"kind {i}" for i in range(9)],
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


def references_of(*rows, **changes):
    """Returns the rows of a generator; each of `rows` is an id, a text and a label."""
    names = ("id", "text", "label", "split")
    cells = [dict(zip(names, row, strict=False)) for row in rows]
    config = Config(task="generate", **changes)
    return read_labeled_rows(cells, config, ("text",))


def test_rows_of_one_id_are_one_row_with_all_their_texts():
    rows = references_of(
        ("1", "hi", "a cow"),
        ("2", "ho", "x|y"),
        ("1", "hi", "one cow"),
        ("1", "hi", "a cow"),
        ("2", "ho", ["z", "y"]),
    )
    assert [row.labels for row in rows] == [("a cow", "one cow"), ("x", "y", "z")]
    assert [(row.id, row.problem) for row in rows] == [("1", ""), ("2", "")]


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (("1", "ho", "b", "train"), "text"),
        (("1", "hi", "b", "test"), "split"),
    ],
)
def test_a_repeated_id_with_another_input_or_split_is_a_problem(other, name):
    first, second = references_of(("1", "hi", "a", "train"), other)
    assert first.labels == ("a",) and not first.problem
    message = f"id '1' is already that of row 0, whose {name} is another"
    assert second.problem == message


def test_a_repeated_id_is_a_problem_of_other_tasks():
    rows = [{"id": "1", "text": "hi", "label": label} for label in "ab"]
    first, second = read_labeled_rows(rows, Config(), ("text",))
    assert "is already that of" in second.problem and first.labels == ("a",)


@pytest.mark.parametrize("label", ["", " ", "|", []])
def test_a_row_without_a_text_has_a_problem(label):
    (row,) = references_of(("1", "hi", label))
    assert row.problem == "label is missing"


def test_a_reference_without_text_is_a_problem_of_its_row_only():
    first, second = references_of(("1", "hi", "a"), ("1", "hi", ""))
    assert first.labels == ("a",) and not first.problem
    assert second.problem == "label is missing"


def test_texts_are_divided_into_splits_like_one_class():
    rows = references_of(*((str(i), "hi", f"text {i}") for i in range(20)))
    strata = stratify(rows, "generate")
    assert {row.labels for row in strata} == {("",)}
    splits = Counter(assign_splits(strata, TableConfig(), seed=0))
    assert splits["train"] == 14 and splits["val"] == splits["test"] == 3
    assert check_task(rows, "generate") is None
