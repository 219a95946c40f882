"""What all estimators share, on a linear model of two columns."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import mmkeras
from mmkeras.errors import UserError
from tests.program_harness import run_python

SETTINGS = {"evaluate__noise_rows": 0, "evaluate__bootstrap_resamples": 20}


@pytest.fixture(scope="module")
def numbers() -> pd.DataFrame:
    """Sixty rows of a price and a breed; the label y is whether the price is high."""
    price = np.linspace(-2, 2, 60)
    rows = {"price": price, "breed": list("abc") * 20, "y": (price > 0).astype(int)}
    return pd.DataFrame(rows).sample(frac=1, random_state=0, ignore_index=True)


@pytest.fixture
def new_linear():
    return lambda **more: mmkeras.MultimodalClassifier("linear", **SETTINGS, **more)


@pytest.fixture(scope="module")
def linear(numbers):
    """A linear model in a temporary run folder; tests do not change it."""
    return mmkeras.MultimodalClassifier("linear", **SETTINGS).fit(numbers, "y")


def test_a_label_column_keeps_its_type_also_after_load(linear, numbers):
    for model in (linear, mmkeras.load(linear.folder_)):
        assert model.classes_.tolist() == [0, 1] and model.classes_.dtype == int
        assert (model.predict(numbers) == numbers.y).mean() > 0.9
        assert list(model.feature_names_in_) == ["price", "breed"]
        assert model.n_features_in_ == 2


def test_a_copy_and_a_pickle_have_a_run_folder_of_their_own(new_linear, numbers):
    model = new_linear().fit(numbers, "y")
    expected = model.predict_proba(numbers)
    data, twin, folders = pickle.dumps(model), copy.deepcopy(model), [model.folder_]
    del model
    assert not folders[0].exists()
    for other in (twin, pickle.loads(data)):
        np.testing.assert_array_equal(other.predict_proba(numbers), expected)
        assert other.evaluate(numbers).keys() == other.evaluate().keys()
        assert other.config_.table.cache_dir == str(other.folder_.with_name("cache"))
        folders.append(other.folder_)
    assert len(set(folders)) == 3 and not folders[0].parent.exists()


def test_a_failed_fit_leaves_the_model_of_the_first(new_linear, numbers):
    model = new_linear().fit(numbers, "y")
    folder, expected = model.folder_, model.predict(numbers)
    with pytest.raises(UserError):
        model.fit(numbers, "breed and more")
    assert model.folder_ == folder and model.report().is_file()
    np.testing.assert_array_equal(model.predict(numbers), expected)


def test_a_matrix_of_labels_is_predicted_as_one(new_linear, numbers):
    flags = pd.DataFrame({"high": numbers.y, "a": (numbers.breed == "a").astype(int)})
    X = numbers[["price", "breed"]]
    model = new_linear().fit(X, flags)
    assert (model.predict(X) == flags.to_numpy()).mean() > 0.9
    assert model.classes_.tolist() == ["a", "high"] and model.score(X, flags) > 0.9
    assert model.predict(X.head(0)).shape == (0, 2)


def test_unreadable_cells_are_warnings_of_the_table(linear, numbers):
    linear.predict(numbers.head(2).assign(price=["abc", 1]))
    (text,) = linear.warnings_
    assert "counts as absent" in text and "row 0: price 'abc'" in text
    linear.predict(numbers.head(2))
    assert linear.warnings_ == []


def test_wrong_arguments_of_methods_are_refused(linear, numbers, tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("x")
    cases = {
        "split must be one of train, val, test": {"split": "foo"},
        "on_bad_row must be one of fail, reject, absent": {"on_bad_row": "zz"},
        "path cannot be of type int": {"path": 5},
        "path .* exists already": {"path": tmp_path},
    }
    for message, arguments in cases.items():
        with pytest.raises(UserError, match=message):
            linear.evaluate(numbers, **arguments)
    with pytest.raises(UserError, match="rows=-1 is not possible"):
        linear.explain(numbers, rows=-1)
    with pytest.raises(UserError, match="t.csv' is a file"):
        linear.export(file)
    assert file.read_text() == "x" and list(tmp_path.iterdir()) == [file]


def test_a_second_prediction_traces_nothing(fitted, frame, monkeypatch):
    expected = fitted.predict_proba(frame.head(2))

    def refuse(*_, **__):
        raise AssertionError("a function is traced again")

    monkeypatch.setattr(tf, "function", refuse)
    np.testing.assert_array_equal(fitted.predict_proba(frame.head(2)), expected)


def test_an_import_by_unpickling_prints_nothing():
    result = run_python("""
import os, pickle
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
name = b"cmmkeras.estimators.classifier\\nMultimodalClassifier\\n."
print(pickle.loads(name).__name__)
""")
    assert (result.stdout, result.stderr) == ("MultimodalClassifier\n", "")
