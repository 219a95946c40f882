import keras
import numpy as np

from mmkeras.layers.tied_embedding import TiedEmbedding
from tests.layer_test import run_layer_test

SETTINGS = {"vocab_size": 9, "width": 4}
TOKENS = np.int32([[2, 5, 0], [8, 8, 1]])
HIDDEN = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")


class Both(TiedEmbedding):
    """Embedding and logits of one call, for the shared test."""

    def call(self, inputs):
        return super().call(super().call(inputs), reverse=True)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((*inputs.shape, self.vocab_size), "float32")


def test_layer():
    keras.saving.register_keras_serializable("mmkeras")(Both)
    shared = {"expected_weights": (2, 0), "mixed_dtype": "float32"}
    run_layer_test(Both, SETTINGS, TOKENS, (2, 3, 9), **shared)


def test_tokens_become_their_rows_and_hidden_vectors_products_with_all_rows():
    layer = TiedEmbedding(**SETTINGS)
    layer(TOKENS)
    matrix, bias = np.random.default_rng(1).normal(size=(9, 4)), np.arange(9.0)
    layer.set_weights([matrix, bias])
    np.testing.assert_allclose(layer(TOKENS), 2 * matrix[TOKENS], rtol=1e-5)
    logits = layer(HIDDEN, reverse=True)
    np.testing.assert_allclose(logits, HIDDEN @ matrix.T + bias, rtol=1e-4, atol=1e-5)


def test_an_embedded_token_starts_with_a_deviation_of_one():
    layer = TiedEmbedding(vocab_size=500, width=64)
    np.testing.assert_allclose(np.std(layer(np.arange(500)[None])), 1, rtol=0.02)


def test_either_call_can_be_the_first():
    layer = TiedEmbedding(**SETTINGS)
    assert layer(HIDDEN, reverse=True).shape == (2, 3, 9)
    assert layer(TOKENS).shape == (2, 3, 4)
    assert layer.count_params() == 9 * 4 + 9


def test_embeddings_have_the_dtype_of_the_policy_and_logits_are_float32():
    layer = TiedEmbedding(**SETTINGS, dtype="mixed_float16")
    dtypes = [layer(TOKENS).dtype, layer(HIDDEN, reverse=True).dtype]
    names = [keras.backend.standardize_dtype(dtype) for dtype in dtypes]
    assert names == ["float16", "float32"]


def test_a_model_with_both_calls_is_saved_and_loaded_with_one_matrix(tmp_path):
    inputs = keras.Input((None,), dtype="int32")
    embedding = TiedEmbedding(**SETTINGS, name="tied")
    x = keras.layers.Dense(4, name="dense")(embedding(inputs))
    model = keras.Model([inputs], embedding(x, reverse=True))
    assert model.count_params() == 9 * 4 + 9 + 4 * 4 + 4
    assert model.output_shape == (None, None, 9)

    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")

    assert loaded.count_params() == model.count_params()
    np.testing.assert_array_equal(loaded([TOKENS]), model([TOKENS]))
    loaded.get_layer("tied").bias.assign(np.ones(9))
    np.testing.assert_allclose(loaded([TOKENS]), model([TOKENS]) + 1, rtol=1e-5)
