"""Arguments that are refused at once, before any training."""

import keras
import numpy as np
import pytest
from sklearn import exceptions
from sklearn.utils.validation import check_is_fitted

import mmkeras
from mmkeras.errors import UserError
from mmkeras.estimators.arguments import callback_list
from tests.estimators.tiny_estimator import new_classifier


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"settings": 5}, "settings cannot be of type int"),
        ({"path": 5}, "path cannot be of type int"),
        ({"encoders": 5}, "encoders cannot be of type int"),
        ({"encoders": [keras.Sequential()]}, "encoders cannot be of type list"),
        ({"encoders": {"text": keras.layers.Dense(2)}}, "'text'.* is of type Dense"),
        ({"columns": {"a": "foo"}}, "columns.a has the type 'foo'"),
        ({"columns": {"a": {"type": "text", "unit": 3}}}, "Did you mean 'units'"),
        ({"task": "regression"}, "Use MultimodalRegressor"),
    ],
)
def test_a_wrong_argument_of_the_constructor_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        mmkeras.MultimodalClassifier(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"task": "binary"},
        {"settings": {"task": "auto"}},
        {"settings": mmkeras.Config(task="multilabel")},
    ],
)
def test_a_regressor_has_no_task_of_classes(arguments):
    with pytest.raises(UserError, match="Use MultimodalClassifier"):
        mmkeras.MultimodalRegressor(**arguments)
    settings = mmkeras.Config(train=mmkeras.Config().train)
    model = mmkeras.MultimodalRegressor(settings=settings)
    assert model.build_config().task == "regression"


def test_a_refused_parameter_changes_nothing():
    model = new_classifier(epochs=3)
    before = model.get_params()
    with pytest.raises(UserError):
        model.set_params(epochs="x", path="other")
    assert model.get_params() == before


def test_an_estimator_that_is_not_fitted_is_known_as_such():
    model = new_classifier()
    assert not hasattr(model, "model") and not hasattr(model, "trained_model")
    with pytest.raises(exceptions.NotFittedError, match="mmkeras.load"):
        model.predict({"text": ["a"]})
    with pytest.raises(exceptions.NotFittedError):
        check_is_fitted(model)


def test_one_callback_is_a_list_of_one():
    callback = keras.callbacks.TerminateOnNaN()
    assert callback_list(callback) == callback_list((callback,)) == [callback]
    assert callback_list(None) == callback_list(()) == []
    for wrong in (5, [callback, print], keras.callbacks.TerminateOnNaN):
        with pytest.raises(UserError, match="callbacks cannot be of type"):
            callback_list(wrong)


@pytest.mark.parametrize(
    ("folds", "message"), [("a", "folds needs int"), (1, "folds=1 is not possible")]
)
def test_a_wrong_number_of_folds_is_refused(folds, message):
    with pytest.raises(UserError, match=message):
        mmkeras.cross_validate(new_classifier(), {"text": ["a"]}, folds=folds)
    with pytest.raises(UserError, match="path cannot be of type"):
        mmkeras.cross_validate(new_classifier(), {"text": ["a"]}, path=np.int64(5))
