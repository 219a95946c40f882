import keras
import numpy as np
import pytest

from mmkeras.config import LossConfig
from mmkeras.models.label_encoder import build_label_encoder

TOKENS = np.array([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0], [0, 0, 0, 0, 0]], "int32")


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(1)
    return build_label_encoder(LossConfig(text_image=1.0, width=4), vocab_size=9)


def test_a_text_has_a_vector_of_length_1_and_an_empty_one_zeros(encoder):
    vectors = np.array(encoder({"tokens": TOKENS}))
    assert vectors.shape == (3, 4) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0], atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)


def test_padding_changes_nothing(encoder):
    longer = np.pad(TOKENS, [(0, 0), (0, 4)])
    np.testing.assert_allclose(
        encoder({"tokens": longer}), encoder({"tokens": TOKENS}), atol=1e-6
    )
    np.testing.assert_allclose(
        encoder({"tokens": TOKENS[:, :4]}), encoder({"tokens": TOKENS}), atol=1e-6
    )


def test_each_token_changes_the_vector(encoder):
    before = np.array(encoder({"tokens": TOKENS}))
    for place in range(3):
        tokens = TOKENS.copy()
        tokens[0, place] = 8
        after = np.array(encoder({"tokens": tokens}))
        assert np.abs(after[0] - before[0]).max() > 1e-4
        np.testing.assert_array_equal(after[1:], before[1:])


def test_the_number_of_parameters_is_pinned(encoder):
    # Embedding 9 x 4, dense 4 x 8 + 8, dense 8 x 4 + 4.
    assert encoder.count_params() == 36 + 40 + 36


def test_a_saved_encoder_gives_the_same(encoder, tmp_path):
    encoder.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_array_equal(
        loaded({"tokens": TOKENS}), encoder({"tokens": TOKENS})
    )
