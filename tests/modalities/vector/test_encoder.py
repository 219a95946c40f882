import keras
import numpy as np
import pytest

from mmkeras.config import VectorConfig
from mmkeras.modalities.vector.encoder import build_vector_encoder

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


# A change of these numbers changes every saved run.
@pytest.mark.parametrize(("units", "width", "parameters"), [(8, 8, 56), (0, 6, 0)])
def test_an_encoder_has_its_width_and_its_parameters(units, width, parameters):
    encoder = build_vector_encoder(VectorConfig(units=units), 6, "x_encoder")
    assert encoder.name == "x_encoder" and encoder.output_shape == (None, width)
    assert encoder.count_params() == parameters


def test_without_units_the_vector_itself_is_returned():
    encoder = build_vector_encoder(VectorConfig(units=0), 6, "x_encoder")
    np.testing.assert_array_equal(encoder(X), X)


def test_a_dense_layer_with_relu_reads_the_vector():
    keras.utils.set_random_seed(1)
    encoder = build_vector_encoder(VectorConfig(units=8), 6, "x_encoder")
    kernel, bias = encoder.get_layer("vector_dense").get_weights()
    expected = np.maximum(X @ kernel + bias, 0)
    np.testing.assert_allclose(encoder(X), expected, rtol=1e-4, atol=1e-5)


def test_dropout_acts_in_training_alone():
    encoder = build_vector_encoder(VectorConfig(dropout=0.9, units=0), 6, "x_encoder")
    np.testing.assert_array_equal(encoder(X, training=False), X)
    assert not np.allclose(encoder(X, training=True), X)
