import keras
import numpy as np
import pytest

from mmkeras.config import TrainConfig
from mmkeras.training.layer_rates import layer_ratios, scale_rates


def test_rates_fall_in_equal_ratios_from_the_last_variable_to_the_first():
    layers = [keras.layers.Dense(1, use_bias=False) for _ in range(3)]
    encoder = keras.Sequential([keras.Input((1,)), *layers])
    config = TrainConfig(fine_tune_rate=0.01, fine_tune_decay=0.25)
    ratios = layer_ratios(encoder, config, peak=0.1)
    values = [ratios[id(variable)] for variable in encoder.trainable_variables]
    assert values == pytest.approx([0.025, 0.05, 0.1])
    layers[0].trainable = False
    ratios = layer_ratios(encoder, config, peak=0.01)
    values = [ratios[id(variable)] for variable in encoder.trainable_variables]
    assert values == pytest.approx([0.25, 1.0])


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_a_variable_moves_by_its_own_rate(kind):
    variables = [keras.Variable(np.zeros(2)) for _ in range(3)]
    optimizer = keras.optimizers.get({"class_name": kind, "config": {}})
    scale_rates(optimizer, variables, {id(variables[1]): 0.5, id(variables[2]): 0.0})
    optimizer.build(variables)
    optimizer.apply([np.ones(2, np.float32)] * 3, variables)
    first, second, third = (variable.numpy() for variable in variables)
    assert first.all() and not third.any()
    np.testing.assert_allclose(second, first / 2, rtol=1e-5)
