import keras
import numpy as np
import pytest

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.encoder import ChunkedMean, build_audio_encoder
from tests.layer_test import run_layer_test

# Two rows of frames; the second has seven and padding.
FRAMES = np.random.default_rng(0).normal(size=(2, 20, 6)).astype("float32")
FRAMES[1, 7:] = 0
MASK = [[True] * 3, [True, False, False]]


def build(kind, tokens=False, shape=(20, 6), **settings):
    keras.utils.set_random_seed(1)
    settings = {"units": 8} | settings
    return build_audio_encoder(AudioConfig(encoder=kind, **settings), shape, tokens)


# A change of these numbers changes every saved run.
@pytest.mark.parametrize(
    ("kind", "settings", "width", "parameters"),
    [
        ("cnn", {}, 8, 144 + 4_608 + 2_304 + 4 * 56),
        ("gru", {}, 8, 384),
        ("log_mel_stats", {"shape": (128,), "units": 64}, 64, 8_256),
    ],
)
def test_an_encoder_has_its_width_and_its_parameters(kind, settings, width, parameters):
    encoder = build(kind, **settings)
    assert encoder.output_shape == (None, width)
    assert encoder.count_params() == parameters


@pytest.mark.parametrize("kind", ["cnn", "gru"])
def test_tokens_are_chunks_of_eight_frames_with_a_mask(kind):
    tokens, mask = build(kind, tokens=True)(FRAMES)
    assert tokens.shape == (2, 3, 8)
    np.testing.assert_array_equal(mask, MASK)


@pytest.mark.parametrize("kind", ["cnn", "gru"])
@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
def test_a_row_does_not_depend_on_the_others(kind, pooling):
    encoder = build(kind, pooling=pooling)
    batch = np.array(encoder(FRAMES))
    np.testing.assert_allclose(batch[1:], encoder(FRAMES[1:]), rtol=1e-5, atol=1e-6)
    assert not np.allclose(batch[0], batch[1], atol=1e-4)


def test_the_mean_of_a_chunk_is_over_its_frames_without_padding():
    means, mask = ChunkedMean(8)(FRAMES)
    np.testing.assert_allclose(means[0, 2], FRAMES[0, 16:].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(means[1, 0], FRAMES[1, :7].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(mask, MASK)


def test_layers():
    dtypes = {"expected_dtype": ("float32", "bool"), "mixed_dtype": ("float16", "bool")}
    b, _, width = FRAMES.shape
    shapes = ((b, 3, width), (b, 3))
    run_layer_test(ChunkedMean, {"frames": 8}, FRAMES, shapes, **dtypes)
