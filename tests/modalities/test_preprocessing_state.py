import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.modalities.preprocessing_state import (
    BINARY,
    MULTICLASS,
    MULTILABEL,
    Moments,
    PreprocessingState,
    Scale,
    choose_vocabulary,
    count_rows,
    find_classes,
    load,
    save,
    target,
)


@pytest.mark.parametrize(
    ("labels", "task", "classes"),
    [
        ([["dog"], ["cat"], ["dog"]], BINARY, ("cat", "dog")),
        ([["dog"], ["cat"], ["cow"]], MULTICLASS, ("cat", "cow", "dog")),
        ([["dog"], ["dog"]], MULTICLASS, ("dog",)),
        ([["dog", "cat"], ["cow"]], MULTILABEL, ("cat", "cow", "dog")),
        ([["dog", "cat"], ["cat"]], MULTILABEL, ("cat", "dog")),
        ([["dog", "dog"], ["cat"]], BINARY, ("cat", "dog")),
        ([["10"], ["9"], ["1"]], MULTICLASS, ("1", "9", "10")),
        ([["1"], ["0"]], BINARY, ("0", "1")),
        ([["10"], ["9"], ["x"]], MULTICLASS, ("10", "9", "x")),
        ([["01"], ["1"], ["2"]], MULTICLASS, ("01", "1", "2")),
    ],
)
def test_classes_and_task_follow_from_the_labels(labels, task, classes):
    assert find_classes(labels) == (task, classes)
    assert find_classes(reversed(labels)) == (task, classes)


def test_the_target_marks_each_class_named():
    classes = ("cat", "cow", "dog")
    assert target("cow", classes).tolist() == [0, 1, 0]
    assert target("dog|cat", classes).tolist() == [1, 0, 1]
    assert target("co", classes).tolist() == [0, 0, 0]


def test_the_tokens_of_most_rows_come_first():
    rows = [[b"cow", b"cow", b"cow"], [b"moo", b"dog"], [b"dog"]]
    vocabulary, idf = choose_vocabulary(*count_rows(rows), size=2, min_rows=1)
    assert vocabulary == ("dog", "cow")
    assert idf == pytest.approx([np.log(4 / 3) + 1, np.log(4 / 2) + 1])


def test_tokens_of_too_few_rows_are_left_out():
    rows = [[b"rare", b"rare", b"common"], [b"common"]]
    assert choose_vocabulary(*count_rows(rows), size=9, min_rows=2)[0] == ("common",)
    stand_in = (("",), (1.0,))  # a vector has at least one number
    assert choose_vocabulary(*count_rows([[b"rare"]]), size=9, min_rows=2) == stand_in
    assert choose_vocabulary(*count_rows([]), size=9, min_rows=1) == stand_in


WORDS = st.sampled_from([b"a", b"b", b"c", b"d", "é".encode()])


@given(st.lists(st.lists(WORDS, max_size=4), max_size=8), st.randoms())
def test_the_order_of_rows_and_tokens_does_not_matter(rows, random):
    shuffled = [random.sample(row, len(row)) for row in rows]
    random.shuffle(shuffled)
    assert choose_vocabulary(*count_rows(rows), 3, 1) == choose_vocabulary(
        *count_rows(shuffled), 3, 1
    )


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 7), max_size=6),
    st.floats(-1e3, 1e3),
    st.integers(0, 2**16),
)
def test_moments_are_those_of_numpy_in_any_batching(sizes, offset, seed):
    rng = np.random.default_rng(seed)
    batches = [offset + rng.normal(size=(size, 3)) for size in sizes]
    moments = Moments()
    for batch in batches:
        moments.add(batch.astype(np.float32))
    rows = np.concatenate([np.zeros((0, 3)), *batches]).astype(np.float32)
    if len(rows) < 2:
        return

    scale = moments.scale(3)

    rows = rows.astype(np.float64)
    np.testing.assert_allclose(scale.mean, rows.mean(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scale.deviation, rows.std(axis=0), rtol=1e-6)


def test_a_number_that_never_changes_is_not_divided_by_zero():
    moments = Moments()
    moments.add(np.array([[7.0, 1.0], [7.0, 3.0]]))
    assert moments.scale(2) == Scale(mean=(7.0, 2.0), deviation=(1.0, 1.0))


def test_no_rows_leave_the_numbers_as_they_are():
    assert Moments().scale(2) == Scale(mean=(0.0, 0.0), deviation=(1.0, 1.0))


def test_what_is_saved_is_what_is_loaded(tmp_path, state):
    path = tmp_path / "analysis.json"
    save(state, path)
    assert load(path) == state


def test_names_in_any_script_are_saved_and_loaded(tmp_path):
    found = PreprocessingState(
        modalities=("text",),
        task=BINARY,
        classes=("корова", "犬 \U0001f404"),
        class_rows=(1, 2),
        vocabulary=("ça", "\u2028", '"'),
        idf=(1.0, 0.1 + 0.2, 3.0),
        widths={"text": 3},
    )
    path = tmp_path / "analysis.json"
    save(found, path)
    assert load(path) == found
