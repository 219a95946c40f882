import keras
import numpy as np
import pytest

from mmkeras.layers.replica_dropout import Dropout
from mmkeras.models.fusion import ModalityDropout
from tests.layer_test import run_layer_test

X = np.random.default_rng(0).uniform(1, 2, (6, 5)).astype(np.float32)
PRESENT = np.ones((6, 3), np.float32)


def test_layers():
    run_layer_test(Dropout, {"rate": 0.5, "seed": 1}, X, (6, 5))


def run(layer, x, replicas=1):
    """Concatenated outputs of replicas with equal seeds, each for its part."""
    state, outputs = layer.seed_generator.state.numpy(), []
    for index, part in enumerate(np.split(x, replicas)):
        layer.seed_generator.state.assign(state)
        if replicas > 1:
            layer.replica = lambda index=index: (index, replicas)
        outputs.append(keras.ops.convert_to_numpy(layer(part, training=True)))
    return np.concatenate(outputs)


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize(
    ("layer_class", "rate", "x"), [(Dropout, 0.5, X), (ModalityDropout, 0.4, PRESENT)]
)
def test_replicas_draw_the_numbers_of_one_device(layer_class, rate, x, replicas):
    single = run(layer_class(rate, seed=1), x)
    assert (single == 0).any() and (single != 0).any()
    np.testing.assert_array_equal(run(layer_class(rate, seed=1), x, replicas), single)


def test_on_one_device_it_is_the_dropout_of_keras():
    expected = run(keras.layers.Dropout(0.5, seed=1), X)
    np.testing.assert_array_equal(run(Dropout(0.5, seed=1), X), expected)


def test_a_replica_drops_nothing_outside_of_training():
    layer = Dropout(0.5)
    layer.replica = lambda: (1, 2)
    np.testing.assert_array_equal(layer(X, training=False), X)
    assert Dropout(0.0)(X, training=True).shape == X.shape


def test_it_is_saved_and_loaded_without_its_replica(tmp_path):
    layer = Dropout(0.5, name="d")
    layer.replica = lambda: (1, 2)
    model = keras.Sequential([keras.Input((5,)), layer])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras").get_layer("d")
    assert type(loaded) is Dropout and loaded.rate == 0.5 and loaded.replica is None
