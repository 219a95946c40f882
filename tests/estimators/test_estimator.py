"""What all estimators share, on a linear model of two columns."""

import copy
import pickle

import keras
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
    flags["never"] = 0
    X = numbers[["price", "breed"]]
    model = new_linear().fit(X, flags)
    assert (model.predict(X) == flags.to_numpy()).mean() > 0.9
    scores = model.predict_proba(X)
    assert ((scores > 0.5) == flags.to_numpy()).mean() > 0.9 and not scores[:, 2].any()
    assert model.classes_.tolist() == ["high", "a", "never"]
    assert model.score(X, flags) == model.score(X, flags.to_numpy()) > 0.9
    assert model.predict(X.head(0)).shape == (0, 3)


def test_classes_are_in_the_order_of_scikit_learn(new_linear, numbers):
    X, names = numbers[["price", "breed"]], {"a": "9", "b": "10", "c": "11"}
    for labels in (numbers.breed.map(names), numbers.breed.map(names).astype(int) - 10):
        model = new_linear().fit(X, labels.to_numpy())
        assert model.classes_.tolist() == np.unique(labels).tolist()
        best = model.classes_[model.predict_proba(X).argmax(axis=1)]
        assert best.tolist() == model.predict(X).tolist() == labels.tolist()


def test_a_score_of_unknown_labels_is_refused(linear, numbers):
    X = numbers[["price", "breed"]]
    with pytest.raises(UserError, match="knows none of the labels: 'high', 'low'"):
        linear.score(X, np.where(numbers.y, "high", "low"))


def test_a_finished_run_is_that_of_its_table(new_linear, numbers, tmp_path):
    settings = {"path": tmp_path / "run", "table__label": "y"}
    path = tmp_path / "rows.csv"
    numbers.to_csv(path, index=False)
    new_linear(**settings).fit(path)
    new_linear(**settings).fit(path)
    numbers.assign(y=1 - numbers.y).to_csv(path, index=False)
    with pytest.raises(UserError, match="The table has changed since the run"):
        new_linear(**settings).fit(path)


def test_a_table_of_training_rows_is_a_warning(new_linear, numbers):
    model = new_linear().fit(numbers[:50], "y", validation_data=numbers[50:])
    model.evaluate(numbers[:50])
    assert any("training rows of the run" in text for text in model.warnings_)
    model.evaluate(numbers[50:])
    assert not any("training rows of the run" in text for text in model.warnings_)
    rows = numbers.assign(split=["train", "train", "test"] * 20)
    model = new_linear().fit(rows[:50], "y", validation_data=numbers[50:])
    model.evaluate(rows[:50])
    assert not any("training rows of the run" in text for text in model.warnings_)


def test_the_columns_of_validation_labels_are_those_of_the_labels(new_linear, numbers):
    flags = pd.DataFrame({"high": numbers.y, "low": 1 - numbers.y})
    X = numbers[["price", "breed"]]
    validation = X[50:], flags[50:].to_numpy()
    model = new_linear().fit(X[:50], flags[:50], validation_data=validation)
    assert model.trained_model.state.classes == ("high", "low")


def test_a_linear_model_takes_neither_callbacks_nor_encoders(new_linear, numbers):
    with pytest.raises(UserError, match="linear is fitted without epochs"):
        new_linear().fit(numbers, "y", callbacks=keras.callbacks.TerminateOnNaN())
    with pytest.raises(UserError, match="linear trains no encoder, and tabular"):
        new_linear(encoders={"tabular": lambda shape: None}).fit(numbers, "y")


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
