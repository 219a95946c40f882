import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import AudioConfig, AugmentConfig
from mmkeras.errors import UserError
from mmkeras.modalities.audio.column import Audio
from tests import table_factory

WAV = table_factory.tone()  # 18 windows


def column_of(encoder):
    return Audio("call", AudioConfig(encoder=encoder, clip_s=0.5, bands=16, mfccs=8))


def fitted(encoder, mean=0.0, deviation=1.0):
    column = column_of(encoder)
    width = column.statistics().width
    state = column.fit((np.full(width, mean), np.full(width, deviation)))
    return column.graph({"call": state})


def finish(graph, **settings):
    return graph.finish_row(graph.decode_bytes(WAV), **settings).numpy()


def test_before_the_fit_numbers_are_not_scaled_and_frames_not_padded():
    raw = column_of("cnn").graph({"call": {"width": 16}})
    frames, scaled = finish(raw), finish(fitted("cnn", 1.0, 4.0))
    assert frames.shape == (18, 16) and scaled.shape == (48, 16)
    expected = np.clip((frames - 1) / 4, -5, 5)
    np.testing.assert_allclose(scaled[:18], expected, rtol=1e-5, atol=1e-6)
    assert not scaled[18:].any()


def test_a_tone_and_silence_differ_and_an_absent_row_is_zeros():
    graph = fitted("log_mel_stats")
    assert graph.input_spec == tf.TensorSpec([32], tf.float32)
    rows = {"call": tf.constant([WAV, table_factory.tone(0), b"", b"RIFF broken"])}
    values, usable = graph(rows)
    assert not np.allclose(values[0], values[1], atol=0.1)
    assert not values[2:].numpy().any()
    ok, exists = (x.numpy().tolist() for x in usable["call"])
    assert ok == [True, True, False, False] and exists == [True, True, False, True]


def test_only_training_masks_frames():
    graph = fitted("cnn")
    augment = AugmentConfig(spec_frames=0.5, spec_bands=4)
    plain = finish(graph)
    seed = tf.constant([1, 2])
    first, again = (finish(graph, seed=seed, augment=augment) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == plain.shape and (first != plain).any()


@pytest.mark.parametrize("encoder", ["log_mel_stats", "gru"])
def test_the_size_of_decoded_rows_is_that_of_their_frames(encoder):
    graph = fitted(encoder)
    frames = graph.decode_bytes(WAV).numpy()
    assert graph.decoded_bytes(len(WAV)) == pytest.approx(frames.nbytes, rel=0.15)


def test_a_wave_has_its_length_and_zeros_after_it():
    settings = AudioConfig(encoder="saved_model", weights="a", clip_s=0.5)
    column = Audio("call", settings)
    graph = column.graph({"call": {}})
    values, usable = graph({"call": tf.constant([WAV, b"", b"RIFF broken"])})
    wave = values[0].numpy()
    np.testing.assert_array_equal(wave[:3201], [3200, *column.decoder(WAV)])
    assert values.shape == (3, 8001) and not wave[3201:].any()
    assert not values[1:].numpy().any()
    assert usable["call"][0].numpy().tolist() == [True, False, False]


def test_a_state_of_an_earlier_version_is_refused():
    column = Audio("call", AudioConfig(encoder="hub", hub_handle="a"))
    with pytest.raises(UserError, match="'call' is of an earlier version.*train it"):
        column.graph({"call": {"width": 1024}})
