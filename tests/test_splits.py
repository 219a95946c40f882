from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.config import TableConfig
from mmkeras.errors import UserError
from mmkeras.splits import assign_splits, check_labels
from mmkeras.table import Row

CONFIG = TableConfig()


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
