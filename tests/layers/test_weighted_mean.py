import numpy as np
import pytest
from scipy.special import expit, softmax

from mmkeras.layers.weighted_mean import WeightedMean
from tests.layer_test import run_layer_test

EACH = np.array([[[0.2, 0.8], [0.6, 0.4]], [[1.0, 0.0], [1.0, 0.0]]], "float32")
INVERSE = {"softmax": lambda x: softmax(x, axis=1), "sigmoid": expit}


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "linear"])
def test_the_activation_gives_the_weighted_mean(activation):
    settings = {"shares": [0.75, 0.25], "activation": activation}
    run_layer_test(WeightedMean, settings, EACH, (2, 2))
    mean = INVERSE.get(activation, np.asarray)(WeightedMean(**settings)(EACH))
    np.testing.assert_allclose(mean, [[0.3, 0.7], [1, 0]], atol=1e-6)
