import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.preprocessing_state import BINARY, MULTICLASS, MULTILABEL


@pytest.mark.parametrize(
    ("labels", "task", "classes"),
    [
        (["dog", "cat", "dog"], BINARY, "cat dog"),
        (["dog", "cat", "cow"], MULTICLASS, "cat cow dog"),
        (["dog", "dog"], MULTICLASS, "dog"),
        (["dog cat", "cow"], MULTILABEL, "cat cow dog"),
        (["dog cat", "cat"], MULTILABEL, "cat dog"),
        (["dog dog", "cat"], BINARY, "cat dog"),
        (["10", "9", "1"], MULTICLASS, "1 9 10"),
        (["1", "0"], BINARY, "0 1"),
        (["10", "9", "x"], MULTICLASS, "10 9 x"),
        (["01", "1", "2"], MULTICLASS, "01 1 2"),
    ],
)
def test_classes_and_task_follow_from_the_labels(labels, task, classes):
    rows = [label.split() for label in labels]
    expected = task, tuple(classes.split())
    assert (
        preprocessing_state.find_classes(rows)
        == preprocessing_state.find_classes(reversed(rows))
        == expected
    )


@pytest.mark.parametrize(
    ("label", "expected"),
    [("cow", [0, 1, 0]), ("dog|cat", [1, 0, 1]), ("co", [0, 0, 0])],
)
def test_the_target_marks_each_class_of_the_label(label, expected):
    assert preprocessing_state.target(label, ("cat", "cow", "dog")).tolist() == expected


def test_a_row_counts_each_of_its_tokens_once():
    counts, rows = preprocessing_state.count_rows([[b"a", b"a", b"b"], [b"a"], []])
    assert counts == {b"a": 2, b"b": 1} and rows == 3


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 7), max_size=6), st.floats(-1e3, 1e3), st.integers(0, 2**16)
)
def test_moments_are_those_of_numpy_in_any_batching(sizes, offset, seed):
    rng, moments = np.random.default_rng(seed), preprocessing_state.Moments()
    batches = [offset + rng.normal(size=(size, 3)) for size in sizes]
    for batch in batches:
        moments.add(batch.astype(np.float32))
    rows = np.concatenate([np.zeros((0, 3)), *batches]).astype(np.float32)
    if len(rows) < 2:
        return
    scale = preprocessing_state.scale_state(moments.result(), 3)
    rows = rows.astype(np.float64)
    np.testing.assert_allclose(scale["mean"], rows.mean(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(scale["deviation"], rows.std(axis=0), rtol=1e-6)


def test_a_constant_has_deviation_one_and_no_rows_the_identity():
    moments, scale = preprocessing_state.Moments(), preprocessing_state.scale_state
    assert scale(moments.result(), 2) == {"mean": [0.0] * 2, "deviation": [1.0] * 2}
    moments.add(np.array([[7.0, 1.0], [7.0, 3.0]]))
    assert scale(moments.result(), 2) == {"mean": [7.0, 2.0], "deviation": [1.0] * 2}


def test_a_constant_is_told_from_tiny_numbers_by_its_mean():
    result = np.array([1e6, 0.0]), np.array([1e-2, 1e-9])
    scale = preprocessing_state.scale_state(result, 2)
    np.testing.assert_allclose(scale["deviation"], [1.0, 1e-9], rtol=1e-6)


def test_a_scale_has_the_float32_numbers_of_the_graph():
    result = np.array([0.1]), np.array([0.2])
    scale = preprocessing_state.scale_state(result, 1)
    assert scale == {"mean": [np.float32(0.1)], "deviation": [np.float32(0.2)]}
    assert scale != {"mean": [0.1], "deviation": [0.2]}
    assert all(type(x) is float for numbers in scale.values() for x in numbers)


@pytest.mark.parametrize(
    ("classes", "loaded"),
    [
        (("cafe\u0301", "hot\u00a0 dog\u200b"), ("café", "hot dog")),
        (("cat", "cat\u200b"), ("cat", "cat\u200b")),  # two classes of the model
        (("\u200b", "cat "), ("\u200b", "cat ")),
    ],
)
def test_classes_of_earlier_versions_are_loaded_as_tables_have_them_now(
    classes, loaded, state, tmp_path
):
    state = replace(state, classes=classes)
    preprocessing_state.save(state, tmp_path / "analysis.json")
    assert preprocessing_state.load(tmp_path / "analysis.json").classes == loaded


def test_a_saved_state_is_loaded_with_names_in_any_script(tmp_path, state):
    texts = preprocessing_state.PreprocessingState(
        branches={"заголовок": ("заголовок",), "tabular": ("вес", "größe")},
        columns={
            "заголовок": {
                "width": 3,
                "vocabulary": ["ça", "\u2028", '"'],
                "idf": [1.0, 0.1 + 0.2, 3.0],
            },
            "вес": {},
            "größe": {},
        },
        task=BINARY,
        classes=("корова", "犬 \U0001f404"),
        class_rows=(1, 2),
        rows=3,
    )
    for expected in (state, texts):
        preprocessing_state.save(expected, tmp_path / "analysis.json")
        assert preprocessing_state.load(tmp_path / "analysis.json") == expected


def test_a_state_of_version_0_2_has_its_columns_by_name(tmp_path):
    scale = {"mean": [1.0, 2.0], "deviation": [3.0, 4.0]}
    content = {
        "modalities": ["text", "image", "audio"],
        "task": MULTICLASS,
        "classes": ["cat", "cow", "dog"],
        "class_rows": [1, 2, 3],
        "rows": 6,
        "vocabulary": ["the", "cow", "dog"],
        "idf": [1.0, 1.5, 2.0],
        "widths": {"text": 3, "audio": 2},
        "scales": {"audio": scale},
    }
    path = tmp_path / "analysis.json"
    path.write_text(json.dumps(content))
    words = {"vocabulary": content["vocabulary"], "idf": content["idf"]}
    assert preprocessing_state.load(path) == preprocessing_state.PreprocessingState(
        branches={m: (m,) for m in content["modalities"]},
        columns={
            "text": {"width": 3, **words},
            "image": {},
            "audio": {"width": 2, **scale},
        },
        task=MULTICLASS,
        classes=("cat", "cow", "dog"),
        class_rows=(1, 2, 3),
        rows=6,
    )
    content |= {"modalities": ["text"], "vocabulary": [], "idf": []}
    content |= {"widths": {"text": 2, "audio": 2}, "scales": {"text": scale}}
    path.write_text(json.dumps(content))
    state = preprocessing_state.load(path)
    assert state.branches == {"text": ("text",)}
    assert state.columns == {"text": {"width": 2, **scale}}


@pytest.mark.parametrize(
    ("labels", "task", "columns", "expected"),
    [
        ([["a"], ["b"]], "auto", (), "binary"),
        ([["a"], ["b"]], "multilabel", (), "multilabel"),
        ([["a"], ["b"]], "multiclass", (), "multiclass"),
        ([["a"], ["b"]], "auto", ("a", "b", "c"), "multilabel"),
        ([["a"], ["b"]], "auto", ("a", "x"), "binary"),  # a name with a comma
        ([["a"], ["b"], []], "auto", (), "multilabel"),
    ],
)
def test_the_task_follows_from_the_setting_or_the_labels(
    labels, task, columns, expected
):
    result = preprocessing_state.find_classes(labels, task, columns)
    assert result == (expected, ("a", "b"))


def test_the_scale_of_labels_counts_rows_and_survives_a_file(state, tmp_path):
    scale = preprocessing_state.fit_label_scale({"1": 3, "5": 1})
    assert scale.mean == 2 and scale.deviation == pytest.approx(np.sqrt(3))
    assert preprocessing_state.fit_label_scale({"7": 2}).deviation == 1
    regression = replace(state, label_scale=scale)
    preprocessing_state.save(regression, tmp_path / "state.json")
    assert preprocessing_state.load(tmp_path / "state.json") == regression
