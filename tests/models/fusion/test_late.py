from functools import partial

import keras
import numpy as np
import pytest
import scipy

from mmkeras.config import FusionConfig
from mmkeras.models.fusion import average_classifiers
from mmkeras.models.fusion.late import ClassifierAverage
from tests.layer_test import run_layer_test

softmax = partial(scipy.special.softmax, axis=-1)

LOGITS = np.random.default_rng(0).normal(size=(4, 3, 5)).astype("float32")
PRESENT = np.float32([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0]])


@pytest.mark.parametrize(("activation", "weighted"), [("softmax", 1), ("sigmoid", 0)])
def test_layers(activation, weighted):
    kwargs = {"activation": activation, "weighted": bool(weighted)}
    weights = (1 + weighted, 0)
    inputs = (LOGITS, PRESENT * np.float32([[1], [1], [1], [0]]))
    run_layer_test(ClassifierAverage, kwargs, inputs, (4, 5), expected_weights=weights)


@pytest.mark.parametrize(
    ("activation", "probabilities"),
    [("softmax", softmax), ("sigmoid", scipy.special.expit)],
)
def test_the_average_is_over_the_classifiers_that_have_data(activation, probabilities):
    layer = ClassifierAverage(activation, weighted=False)
    result = probabilities(np.array(layer(LOGITS, PRESENT)))
    each = probabilities(LOGITS)
    expected = [each[i, PRESENT[i] > 0].mean(axis=0) for i in range(4)]
    np.testing.assert_allclose(result, expected, rtol=1e-4)


def test_classifiers_are_averaged_by_learned_weights():
    layer = ClassifierAverage("softmax", weighted=True)
    layer(LOGITS, PRESENT)
    layer.weight_logits.assign(np.log([1.0, 2.0, 5.0]))
    result = softmax(np.array(layer(LOGITS, PRESENT)))
    each = softmax(LOGITS)
    expected = (each[0] * np.array([[1], [2], [5]])).sum(axis=0) / 8
    np.testing.assert_allclose(result[0], expected, rtol=1e-4)
    expected = (each[1, 0] * 1 + each[1, 2] * 5) / 6
    np.testing.assert_allclose(result[1], expected, rtol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_row_without_any_data_gets_the_prior(weighted):
    layer = ClassifierAverage("softmax", weighted)
    layer(LOGITS, PRESENT)
    layer.prior.assign(np.log([[[0.5, 0.2, 0.1, 0.1, 0.1]]]))
    result = softmax(np.array(layer(np.full((1, 3, 5), np.nan), np.zeros((1, 3)))))
    np.testing.assert_allclose(result, [[0.5, 0.2, 0.1, 0.1, 0.1]], rtol=1e-4)


def test_without_presence_all_classifiers_count():
    logits = [keras.Input((5,)) for _ in range(3)]
    present = keras.Input((3,))
    config = FusionConfig(kind="late", presence=False, late="mean")
    model = keras.Model(
        [*logits, present], average_classifiers(logits, present, "softmax", config)
    )
    result = softmax(np.array(model([*LOGITS.swapaxes(0, 1), PRESENT])))
    np.testing.assert_allclose(result, softmax(LOGITS).mean(axis=1), rtol=1e-4)
