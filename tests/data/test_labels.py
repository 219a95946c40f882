from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkeras.data.labels import (
    parse_flags,
    parse_labels,
    warn_lists,
    warn_lookalikes,
)

# What real labels are made of, and what is invisible in them.
PARTS = "Aae-é1.0 n\u0301\u00a0\u00ad\u200b\u200c\u200d\u2060\ufe0f\ufeff❤👩💻|｜²ﬁ"


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("cafe\u0301", ["café"]),
        ("\ufeffcat\u200b\u200d ", ["cat"]),
        ("cat| cat\u2060 |dog", ["cat", "dog"]),
        ("hot\u00a0 dog", ["hot dog"]),
        ("e\u200b\u0301", ["é"]),  # its accent is joined to it
        ("👩\u200d💻|❤", ["👩\u200d💻", "❤"]),  # there the joiner is visible
        ("❤\ufe0f|❤|❤\ufe0e", ["❤"]),
        ("Cat|cat|1|1.0", ["Cat", "cat", "1", "1.0"]),
        ("\u200b|\ufeff", []),
        ('["cat", "hot dog"]', ["cat", "hot dog"]),
        (" ['cat', 'dog', 'cat'] ", ["cat", "dog"]),  # as pandas writes a list
        ("[1, 2.5, true]", ["1", "2.5", "True"]),
        ("[]", []),
        ("[cat, dog]", ["[cat, dog]"]),  # neither JSON nor Python
        ('[["cat"]]', ['[["cat"]]']),
    ],
)
def test_invisible_differences_are_joined_and_visible_ones_kept(cell, labels):
    assert list(parse_labels(cell, join=False)) == labels


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("Cat|cat|CAT", ["cat"]),
        ("True|true|TRUE", ["true"]),
        ("1|1.0|1.|+1|1.00", ["1"]),
        ("0.5|0.50|.5|5E-1|-2.0", ["0.5", "-2"]),
        ("0|-0|-.0|+0.|0e5", ["0"]),
        ("10|100|1e2|1e0|1|007|7", ["10", "100", "1", "007", "7"]),
        ("1e-7|0.0000001|1e100|1e|e1|.", ["0.0000001", "1e100", "1e", "e1", "."]),
        ("nan|None|NULL|N/A", ["none"]),
        ("क्\u200dष|क्ष", ["क्ष"]),
        ("Straße|STRASSE", ["strasse"]),
        ("Ｃat|cat|ﬁsh|fish|x²|x2", ["cat", "fish", "x2"]),
        ("a｜b", ["a｜b"]),  # a full-width bar separates nothing
    ],
)
def test_visible_differences_of_form_are_joined_by_a_setting(cell, labels):
    assert list(parse_labels(cell, join=True)) == labels


@given(st.text(PARTS, max_size=8), st.booleans())
def test_a_parsed_label_is_parsed_as_itself(cell, join):
    labels = parse_labels(cell, join)
    assert parse_labels("|".join(labels), join) == labels
    assert all(label == label.strip() != "" for label in labels)


def test_columns_of_zeros_and_ones_are_labels():
    cells = {"a": "1", "b": " No", "c": "TRUE", "d": "0.0", "e": "1.0"}
    assert parse_flags(cells) == (("a", "c", "e"), "")
    assert parse_flags({"a": "0", "b": "no"}) == ((), "")


@pytest.mark.parametrize("cell", ["", "2", "maybe", "0.5"])
def test_a_flag_of_another_value_is_a_problem_of_the_row(cell):
    labels, problem = parse_flags({"a": "1", "b": cell})
    assert labels == ()
    assert f"column 'b' is '{cell}'" in problem and "0, 1, false, true" in problem


def warning_of(*cells, join=False):
    classes = {label for cell in cells for label in parse_labels(cell, join)}
    return warn_lookalikes(cells, classes)


def test_one_warning_lists_the_groups_and_how_many_classes_they_are():
    cells = ("Cat", "cat", "cafe\u0301", "café", "dog|nan", "None")
    (warning,) = warning_of(*cells)
    assert "'Cat', 'cat' (2 classes)" in warning
    assert "'None', 'nan' (2 classes)" in warning
    assert r"'cafe\u0301', 'café' (one class)" in warning
    assert "dog" not in warning and "--table.join_labels true" in warning
    (warning,) = warning_of(*cells, join=True)
    assert "'Cat', 'cat' (one class)" in warning
    assert "--table.join_labels" not in warning


@pytest.mark.parametrize(
    ("cells", "shown"),
    [
        (["ラベル一号", "ラベル一号\u200b"], r"'ラベル一号', 'ラベル一号\u200b'"),
        (["корова\u00a0рыжая", "корова рыжая"], r"'корова рыжая', 'корова\xa0рыжая'"),
        (["йод", "и\u0306од"], r"'\u0438\u0306од', 'йод'"),
        (["❤", "❤\ufe0f"], r"'❤', '❤\ufe0f'"),
        (["हिन्दी", "हिन्दी\u200b"], r"'हिन्दी', 'हिन्दी\u200b'"),
    ],
)
def test_only_what_is_invisible_is_escaped(cells, shown):
    (warning,) = warning_of(*cells)
    assert shown in warning


def test_labels_that_are_different_or_are_joined_by_blanks_alone_have_no_warning():
    assert warning_of("cat", " cat |dog", "cats", "01", "1", "2", "x1", "x1.0") == []
    assert warning_of() == []


def test_at_most_ten_groups_are_listed():
    cells = [f"{letter}{i}" for i in range(12) for letter in "xX"]
    (warning,) = warning_of(*cells)
    assert warning.count("(2 classes)") == 10 and "; 2 more groups." in warning


def lists_warning(cells, join=False):
    return warn_lists(Counter(cells), {c: parse_labels(c, join) for c in cells})


def test_classes_of_lists_are_those_really_made():
    cells = {"a,b": 2, "A,B": 1}
    assert "they became 2 classes" in lists_warning(cells)[0]
    assert "they became one class" in lists_warning(cells, join=True)[0]


@pytest.mark.parametrize(
    ("cells", "example"),
    [
        ({"a,b": 2, "b,a": 1, "c": 1}, "'a,b'.*2 classes.*'a|b'"),
        ({"[a, b]": 3, "[c]": 1}, "4 label cells.*2 classes.*'a|b'"),
        ({"1,2,3": 5}, "'1,2,3'.*one class.*'1|2|3'"),
        ({"red; green": 5}, "'red; green'.*one class.*'red|green'"),
    ],
)
def test_most_cells_with_other_separators_are_warned_of(cells, example):
    (warning,) = lists_warning(cells)
    before, between, after = example.split(".*")
    assert before in warning and between in warning and after in warning


def test_few_cells_with_commas_and_cells_with_the_separator_are_no_lists():
    assert lists_warning({"a,b": 1, "c": 1}) == []
    assert lists_warning({"Paris, France|Rome, Italy": 9}) == []
    assert lists_warning({"0,5": 5, "-1,25": 4, "dog,": 3, "cat ;": 2}) == []
    assert lists_warning({}) == []
