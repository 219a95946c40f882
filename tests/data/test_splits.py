from collections import Counter
from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from mmkeras.config import TableConfig
from mmkeras.data.splits import assign_folds, assign_splits, check_labels
from mmkeras.data.table import Row
from mmkeras.errors import UserError

CONFIG = TableConfig()
SPLITS = {"train", "val", "test"}
GROUPS = st.sampled_from(["", "g", "h", "k"])


def rows_of(*labels, groups=(), splits=()):
    cells = zip_longest(labels, groups, splits, fillvalue="")
    return [
        Row(line=i, id=str(i), cells={}, labels=tuple(x.split("|")), group=g, split=s)
        for i, (x, g, s) in enumerate(cells, 2)
    ]


def assert_groups_are_whole(groups, parts):
    """No group is in two splits, or in two folds."""
    pairs = {(g, part) for g, part in zip(groups, parts, strict=True) if g}
    assert len(pairs) == len({g for g, _ in pairs})


def test_shares_hold_for_the_table_and_for_each_class():
    rows = rows_of(*["a"] * 200, *["b"] * 100, *["c"] * 20)
    splits = assign_splits(rows, CONFIG, seed=3)
    counts = Counter(zip((r.labels[0] for r in rows), splits, strict=True))
    for label, n in (("a", 200), ("b", 100), ("c", 20)):
        assert abs(counts[label, "train"] - 0.7 * n) <= 2, label
        assert abs(counts[label, "val"] - 0.15 * n) <= 2, label


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
def test_no_group_is_in_two_splits_and_every_split_has_a_row(labels, seed, data):
    groups = [data.draw(GROUPS) for _ in labels]
    rows = rows_of(*labels, groups=groups)
    if len(set(groups) - {""}) + groups.count("") < 3:
        with pytest.raises(UserError, match="at least 3 are needed"):
            assign_splits(rows, CONFIG, seed)
        return
    splits = assign_splits(rows, CONFIG, seed)
    assert set(splits) == SPLITS
    assert_groups_are_whole(groups, splits)


def test_each_class_of_three_rows_is_in_train_even_with_a_small_train_share():
    rows = rows_of(*[str(i // 3) for i in range(60)])
    splits = assign_splits(rows, TableConfig(val_share=0.3, test_share=0.3), 0)
    learned = {r.labels for r, s in zip(rows, splits, strict=True) if s == "train"}
    assert len(learned) == 20


def test_a_class_that_only_occurs_with_others_is_in_train_too():
    rows = rows_of(*[f"rare|{i}" for i in range(3)], *[str(i) for i in range(57)])
    config = TableConfig(val_share=0.45, test_share=0.45)
    for seed in range(10):
        splits = assign_splits(rows, config, seed)
        assert "train" in splits[:3] and set(splits) == SPLITS


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


def test_existing_splits_are_kept_and_a_missing_one_is_taken_from_train():
    existing = ["train"] * 80 + ["test"] * 20
    splits = assign_splits(rows_of(*"ab" * 50, splits=existing), CONFIG, 0)
    assert splits[80:] == ["test"] * 20
    assert Counter(splits[:80]) == {"train": 68, "val": 12}
    complete = ["train", "val", "test"]
    assert assign_splits(rows_of(*"aba", splits=complete), CONFIG, 0) == complete


def test_existing_splits_without_train_or_within_a_group_are_refused():
    with pytest.raises(UserError, match="has the split train"):
        assign_splits(rows_of(*"ab", splits=["val", "test"]), CONFIG, 0)
    rows = rows_of(*"abc", splits=["train", "val", "test"], groups=["g", "g", ""])
    with pytest.raises(UserError, match="'g' .* train and val"):
        assign_splits(rows, CONFIG, 0)


def test_one_class_is_refused_and_classes_of_one_row_are_named():
    with pytest.raises(UserError, match="'a' only.*two classes"):
        check_labels(rows_of(*"aaa"))
    assert check_labels(rows_of(*"aabb")) == []
    (warning,) = check_labels(rows_of("a", "a", "b", "c|a"))
    assert "2 classes" in warning and "'b', 'c'" in warning
    (warning,) = check_labels(rows_of(*map(str, range(15))))
    assert "15 classes" in warning and "5 more" in warning


def test_labels_that_look_alike_and_lists_are_warned_of():
    rows = rows_of("Cat", "cat", "Cat", "cat")
    rows = [replace(row, label_cell=row.labels[0]) for row in rows]
    (warning,) = check_labels(rows)
    assert "'Cat', 'cat' (2 classes)" in warning
    rows = [replace(row, label_cell=f"{row.labels[0]},x") for row in rows]
    alike, lists = check_labels(rows)
    assert "look alike" in alike and "4 label cells look like lists" in lists


def split_by_fold(rows, folds, fold):
    return assign_splits(rows, TableConfig(folds=folds, fold=fold, val_share=0.2), 0)


def test_every_row_is_tested_once_and_existing_splits_are_ignored():
    rows = rows_of(*"ab" * 26, splits=["train"] * 30 + ["test"] * 22)
    tested = [
        [i for i, split in enumerate(split_by_fold(rows, 5, k)) if split == "test"]
        for k in range(1, 6)
    ]
    assert sorted(i for fold in tested for i in fold) == list(range(52))
    assert sorted(map(len, tested)) == [10, 10, 10, 11, 11]


def test_rows_outside_a_fold_are_divided_by_val_share():
    splits = Counter(split_by_fold(rows_of(*"ab" * 50), 4, 2))
    assert splits == {"test": 25, "val": 15, "train": 60}


@pytest.mark.parametrize("grouped", [False, True])
def test_folds_are_stratified_as_evenly_as_those_of_scikit_learn(grouped):
    rng = np.random.default_rng(0)
    labels = list(rng.choice(list("abcd"), 300, p=[0.6, 0.25, 0.1, 0.05]))
    groups = [f"g{i}" for i in rng.integers(0, 60, 300)] if grouped else []
    kind = StratifiedGroupKFold if grouped else StratifiedKFold
    reference = [0] * 300
    sklearn_folds = kind(5, shuffle=True, random_state=0).split(
        labels, labels, groups or None
    )
    for k, (_, test) in enumerate(sklearn_folds, 1):
        for i in test:
            reference[i] = k

    def spread(folds):
        counts = Counter(zip(labels, folds, strict=True))
        each = [[counts[label, k] for k in range(1, 6)] for label in "abcd"]
        return max(max(n) - min(n) for n in each)

    folds = assign_folds(rows_of(*labels, groups=groups), 5, seed=0)
    assert spread(folds) <= max(spread(reference), 2)


@settings(max_examples=100, deadline=None)
@given(
    labels=st.lists(st.sampled_from(["a", "b", "a|b"]), min_size=1, max_size=30),
    folds=st.integers(2, 8),
    data=st.data(),
)
def test_no_group_is_in_two_folds_and_no_fold_is_empty(labels, folds, data):
    groups = [data.draw(GROUPS) for _ in labels]
    rows = rows_of(*labels, groups=groups)
    try:
        fold_of = assign_folds(rows, folds, 0)
    except UserError as error:
        assert f"are too few for {folds} folds" in str(error)
        return
    assert set(fold_of) == set(range(1, folds + 1))
    assert_groups_are_whole(groups, fold_of)
    for k in range(1, folds + 1):
        assert set(split_by_fold(rows, folds, k)) == SPLITS


@pytest.mark.parametrize(("labels", "folds"), [("aabbc", 6), ("", 2), ("abb", 2)])
def test_more_folds_than_rows_are_refused(labels, folds):
    match = f"^{len(labels)} usable rows .* {folds} folds"
    with pytest.raises(UserError, match=match):
        assign_folds(rows_of(*labels), folds, 0)
