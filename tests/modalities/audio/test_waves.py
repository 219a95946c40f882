import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.errors import UserError
from mmkeras.modalities.audio.waves import WaveMask, WaveSavedModel
from tests.audio_modules import save_loudness
from tests.layer_test import run_layer_test

# 200 samples of which the second wave has half, and a row without a wave.
WAVES = np.zeros((3, 201), "float32")
WAVES[0] = [200, *[0.5] * 100, *[-0.25] * 100]
WAVES[1] = [100, *[1.0] * 100, *[0.0] * 100]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_loudness(tmp_path_factory.mktemp("loudness"))


def test_layers():
    expected = {"expected_dtype": "bool", "mixed_dtype": "bool"}
    run_layer_test(WaveMask, {"frames": 4, "min_frames": 1}, WAVES, (3, 4), **expected)


def test_a_frame_is_valid_if_it_begins_before_the_end():
    mask = np.array(WaveMask(4)(WAVES))
    assert mask.astype(int).tolist() == [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]
    assert np.array(WaveMask(4, min_frames=3)(WAVES)).sum(axis=1).tolist() == [4, 3, 3]
    assert np.array(WaveMask(200)(WAVES)).sum(axis=1).tolist() == [200, 100, 1]


def test_the_vector_of_one_wave_is_the_mean_of_its_frames_without_padding(folder):
    vectors = WaveSavedModel(folder)(WAVES)
    expected = [[0.375, 0.75, 1.125], [1, 2, 3], [0, 0, 0]]
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)


def test_a_wave_without_a_whole_frame_has_zeros(tmp_path):
    spec = [tf.TensorSpec([None], tf.float32, name="waveform")]
    cut = tf.function(lambda waveform: tf.signal.frame(waveform, 150, 150), spec)
    tf.saved_model.save(tf.Module(), str(tmp_path), {"serving_default": cut})
    vectors = np.array(WaveSavedModel(tmp_path)(WAVES))
    assert vectors.shape == (3, 150) and vectors[0].any() and not vectors[1:].any()


def test_a_vector_of_one_wave_is_taken_as_it_is(folder):
    vectors = WaveSavedModel(folder, "vector", "waveform", "vector")(WAVES)
    np.testing.assert_allclose(vectors[:2], [[0.5, 1, 1.5], [1, 2, 3]], rtol=1e-6)


def test_a_batch_gives_its_vectors_or_all_frames(folder):
    frames = WaveSavedModel(folder, "batch", output_name="frames")(WAVES)
    assert frames.shape == (3, 2, 3)
    np.testing.assert_allclose(frames[:2, :, 0], [[0.5, 0.25], [1, 0]], rtol=1e-6)
    means = WaveSavedModel(folder, "batch", output_name="means")(WAVES)
    np.testing.assert_allclose(means, np.mean(frames, axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("signature", "output_name", "reason"),
    [
        ("vector", "x", "no output 'x'; it has 'loud', 'vector', 'windows'"),
        ("vector", "loud", r"shape \(\); it must be \(D,\) or \(N, D\).*output_name"),
        ("batch", "loud", r"shape \(2,\); it must be \(B, D\) or \(B, N, D\)"),
    ],
)
def test_an_output_of_another_shape_is_refused(signature, output_name, reason, folder):
    with pytest.raises(UserError, match=reason):
        WaveSavedModel(folder, signature, output_name=output_name)(WAVES)


@pytest.mark.parametrize(
    "settings", [{}, {"signature": "batch", "output_name": "means"}]
)
def test_it_is_saved_with_a_model(settings, folder, tmp_path):
    waves = keras.Input((201,), name="waves")
    encoder = keras.Model(waves, WaveSavedModel(folder, **settings)(waves))
    model = keras.Model({"waves": waves}, encoder(waves))
    expected = model({"waves": WAVES})
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded({"waves": WAVES}), expected)
