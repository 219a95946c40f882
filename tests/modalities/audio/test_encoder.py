import keras
import numpy as np
import pytest

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.encoder import ChunkedMean, build_audio_encoder

SHAPE = (20, 6)


def built(kind, tokens=False, **settings):
    keras.utils.set_random_seed(1)
    config = AudioConfig(encoder=kind, units=8, **settings)
    return build_audio_encoder(config, SHAPE, tokens)


def sounds():
    """Two sounds; the second has seven frames and padding."""
    frames = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype("float32")
    frames[1, 7:] = 0
    return frames


@pytest.mark.parametrize(
    ("kind", "parameters"), [("cnn", 144 + 4_608 + 2_304 + 4 * 56), ("gru", 384)]
)
def test_an_encoder_of_frames_has_its_width_and_its_parameters(kind, parameters):
    encoder = built(kind)
    assert encoder.output_shape == (None, 8)
    assert encoder.count_params() == parameters


@pytest.mark.parametrize("kind", ["cnn", "gru"])
def test_tokens_are_stretches_of_eight_frames_and_the_mask_says_which_are_there(kind):
    tokens, mask = built(kind, tokens=True)(sounds())
    assert tokens.shape == (2, 3, 8)
    np.testing.assert_array_equal(mask, [[True] * 3, [True, False, False]])


@pytest.mark.parametrize("kind", ["cnn", "gru"])
@pytest.mark.parametrize("pooling", ["mean", "last", "attention"])
def test_what_a_sound_gives_does_not_depend_on_the_others(kind, pooling):
    encoder, frames = built(kind, pooling=pooling), sounds()
    together = np.array(encoder(frames))
    np.testing.assert_allclose(together[1:], encoder(frames[1:]), rtol=1e-5, atol=1e-6)
    assert not np.allclose(together[0], together[1], atol=1e-4)


def test_the_mean_of_a_stretch_is_over_the_frames_that_are_there():
    means, mask = ChunkedMean(8)(sounds())
    np.testing.assert_allclose(means[0, 2], sounds()[0, 16:].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(means[1, 0], sounds()[1, :7].mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(mask[1], [True, False, False])
    again = ChunkedMean.from_config(ChunkedMean(8).get_config())
    assert again.frames == 8
