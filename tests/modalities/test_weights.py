import warnings

import keras
import numpy as np
import pytest

from mmkeras.modalities.weights import load_all_weights


def network(units=2):
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])


def test_all_weights_of_a_file_are_loaded(tmp_path):
    written, read = network(), network()
    written.save_weights(tmp_path / "network.weights.h5")
    load_all_weights(read, tmp_path / "network.weights.h5")
    for one, other in zip(written.weights, read.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_of_other_shapes_are_refused(tmp_path):
    network(units=4).save_weights(tmp_path / "wider.weights.h5")
    with pytest.raises(ValueError):
        load_all_weights(network(), tmp_path / "wider.weights.h5")


def test_a_layer_that_keras_skips_is_refused(monkeypatch):
    backbone = network()

    def skip(path):
        warnings.warn("Skipping nested container at 'blocks': no group", stacklevel=2)

    monkeypatch.setattr(backbone, "load_weights", skip)
    with pytest.raises(ValueError, match="'blocks'"):
        load_all_weights(backbone, "short.weights.h5")
