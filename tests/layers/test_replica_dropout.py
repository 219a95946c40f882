import keras
import numpy as np
import pytest

from mmkeras.layers.replica_dropout import Dropout
from mmkeras.models.fusion import ModalityDropout

X = np.random.default_rng(0).uniform(1, 2, (6, 5)).astype(np.float32)
PRESENT = np.ones((6, 3), np.float32)


def answers(layer, x, places=1):
    """What devices with equal seeds answer to their shares, behind each other."""
    state, parts = layer.seed_generator.state.numpy(), []
    for place, share in enumerate(np.split(x, places)):
        layer.seed_generator.state.assign(state)
        if places > 1:
            layer.share = lambda place=place: (place, places)
        parts.append(keras.ops.convert_to_numpy(layer(share, training=True)))
    return np.concatenate(parts)


@pytest.mark.parametrize("places", [2, 3])
@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (lambda: Dropout(0.5, seed=1), X),
        (lambda: ModalityDropout(0.4, seed=1), PRESENT),
    ],
    ids=["dropout", "modality dropout"],
)
def test_devices_that_share_a_batch_draw_what_one_device_draws(layer, x, places):
    whole = answers(layer(), x)
    assert (whole == 0).any() and (whole != 0).any()
    np.testing.assert_array_equal(answers(layer(), x, places), whole)


def test_alone_it_is_the_dropout_of_keras():
    np.testing.assert_array_equal(
        answers(Dropout(0.5, seed=1), X), answers(keras.layers.Dropout(0.5, seed=1), X)
    )


def test_a_shared_batch_is_left_as_it_is_outside_of_training():
    layer = Dropout(0.5)
    layer.share = lambda: (1, 2)
    np.testing.assert_array_equal(layer(X, training=False), X)
    assert Dropout(0.0)(X, training=True).shape == X.shape


def test_it_is_saved_and_loaded_without_its_share(tmp_path):
    layer = Dropout(0.5, name="d")
    layer.share = lambda: (1, 2)
    model = keras.Sequential([keras.Input((5,)), layer])
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras").get_layer("d")
    assert type(again) is Dropout and again.rate == 0.5 and again.share is None
