import functools
import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.features import (
    audio_vector,
    decode_wave,
    frame_features,
    frame_width,
    log_mel,
    pad_frames,
    resample,
    stats_width,
)

CONFIG = AudioConfig(clip_s=1.0)
RATE_HZ = CONFIG.rate_hz
REFUSED = tf.errors.InvalidArgumentError


@functools.cache
def traced(function, *config):
    string = [tf.TensorSpec([], tf.string)]
    return tf.function(lambda d: function(d, *config), string, autograph=False)


@pytest.fixture(scope="module", autouse=True)
def traced_functions_end_before_tensorflow():
    yield
    traced.cache_clear()


def decoded(data, config=CONFIG):
    return traced(decode_wave, config)(data).numpy()


def tone(hz, rate_hz=RATE_HZ, seconds=1.0, amplitude=0.5):
    return amplitude * np.sin(
        2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz
    )


def chunk(name, content, size=None):
    padding = b"\0" * (len(content) % 2)
    size = len(content) if size is None else size
    return name + struct.pack("<I", size) + content + padding


def fmt(code=1, channels=1, rate_hz=RATE_HZ, bits=16, extension=b""):
    block = channels * bits // 8
    head = struct.pack(
        "<HHIIHH", code, channels, rate_hz, rate_hz * block % 2**32, block, bits
    )
    return chunk(b"fmt ", head + extension)


def riff(*chunks):
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def s16(wave):
    return np.round(32767 * wave).astype("<i2").tobytes()


def wav(wave, rate_hz=RATE_HZ):
    return riff(fmt(rate_hz=rate_hz), chunk(b"data", s16(wave)))


def s24(wave):
    whole = np.round(wave * (2**23 - 1)).astype("<i4")
    return whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


KINDS = {
    "u8": (1, 8, lambda w: np.round(128 + 127 * w).astype("u1").tobytes()),
    "s16": (1, 16, s16),
    "s24": (1, 24, s24),
    "s32": (1, 32, lambda w: np.round(w * (2**31 - 1)).astype("<i4").tobytes()),
    "f32": (3, 32, lambda w: w.astype("<f4").tobytes()),
    "f64": (3, 64, lambda w: w.astype("<f8").tobytes()),
}
EXTENSIONS = {
    "plain": lambda code: (code, b""),
    "extensible": lambda code: (
        0xFFFE,
        struct.pack("<HHIH", 22, 0, 0, code)
        + b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71",
    ),
}


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_sample_kind_gives_the_same_tone(kind, extension):
    code, bits, encode = KINDS[kind]
    wave = tone(440, seconds=0.1)
    code, extra = EXTENSIONS[extension](code)
    data = riff(fmt(code, bits=bits, extension=extra), chunk(b"data", encode(wave)))

    result = decoded(data)

    assert result.dtype == np.float32
    np.testing.assert_allclose(result, wave, atol=1 / 127 if bits == 8 else 1e-4)


def test_channels_are_averaged():
    left, right = tone(440, seconds=0.1), np.zeros(1600)
    data = s16(np.stack([left, right], axis=1))
    result = decoded(riff(fmt(channels=2), chunk(b"data", data)))
    np.testing.assert_allclose(result, left / 2, atol=1e-4)


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_a_440_hz_tone_of_any_rate_stays_a_440_hz_tone(rate_hz):
    result = decoded(wav(tone(440, rate_hz), rate_hz))

    assert result.shape == (RATE_HZ,)
    spectrum = np.abs(np.fft.rfft(result)) / (RATE_HZ / 2)  # bins of 1 Hz
    assert np.argmax(spectrum) == 440
    assert spectrum[440] == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_allclose(result, tone(440), atol=1e-3)


def test_a_tone_above_the_new_nyquist_frequency_is_silenced():
    result = decoded(wav(tone(10_000, 48_000), 48_000))
    assert np.abs(result).max() < 1e-3


def test_silence_stays_silence():
    np.testing.assert_array_equal(decoded(wav(np.zeros(100))), np.zeros(100))


def test_a_long_sound_is_cut_to_its_first_seconds():
    config = AudioConfig(clip_s=0.5)
    wave = np.concatenate([tone(440, seconds=0.5), np.zeros(RATE_HZ)])
    np.testing.assert_allclose(
        decoded(wav(wave), config), tone(440, seconds=0.5), atol=1e-4
    )


def test_a_sound_at_an_odd_high_rate_keeps_its_length():
    # samples * rate leaves 32 bits there
    wave = tone(440, 200_003)
    assert decoded(wav(wave, 200_003)).shape == (RATE_HZ,)


def test_a_streamed_file_goes_on_to_its_end():
    wave = tone(440, seconds=0.1)
    data = riff(fmt(), chunk(b"data", s16(wave), size=0xFFFFFFFF))
    np.testing.assert_allclose(decoded(data), wave, atol=1e-4)


def test_chunks_of_odd_length_before_the_samples_are_skipped():
    wave = tone(440, seconds=0.1)
    data = riff(
        chunk(b"LIST", b"INFOx"),
        fmt(),
        chunk(b"fact", b"odd"),
        chunk(b"data", s16(wave)),
    )
    np.testing.assert_allclose(decoded(data), wave, atol=1e-4)


def test_a_chunk_behind_the_samples_is_no_sound():
    wave = tone(440, seconds=0.1)
    data = riff(fmt(), chunk(b"data", s16(wave)), chunk(b"LIST", b"\x7f" * 64))
    assert decoded(data).shape == wave.shape


def test_of_a_file_cut_short_the_whole_samples_are_heard():
    wave = tone(440, seconds=0.1)
    result = decoded(wav(wave)[:-101])
    np.testing.assert_allclose(result, wave[:-51], atol=1e-4)


@pytest.mark.parametrize("length", range(0, 45, 4))
def test_a_cut_header_is_refused(length):
    with pytest.raises(REFUSED):
        decoded(wav(tone(440, seconds=0.1))[:length])


def f32(*values):
    return chunk(b"data", struct.pack(f"<{len(values)}f", *values))


BROKEN = {
    "no samples": riff(fmt(), chunk(b"data", b"")),
    "half a sample": riff(fmt(), chunk(b"data", b"\1")),
    "no samples chunk": riff(fmt(), chunk(b"LIST", b"xx")),
    "no format": riff(chunk(b"data", b"\0" * 20)),
    "a NaN": riff(fmt(3, bits=32), f32(0.0, float("nan"))),
    "an infinity": riff(fmt(3, bits=32), f32(0.0, float("inf"))),
    "no channels": riff(fmt(channels=0), chunk(b"data", b"\0" * 20)),
    "no rate": riff(fmt(rate_hz=0), chunk(b"data", b"\0" * 20)),
    "a rate of millions": riff(fmt(rate_hz=5_000_000), chunk(b"data", b"\0" * 20)),
    "samples without bits": riff(fmt(bits=0), chunk(b"data", b"\0" * 20)),
    "mu-law": riff(fmt(7, bits=8), chunk(b"data", b"\0" * 20)),
    "RIFX": b"RIFX" + wav(np.zeros(9))[4:],
    "a video": riff().replace(b"WAVE", b"AVI "),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_sound_is_refused(what):
    with pytest.raises(REFUSED):
        decoded(BROKEN[what])


def wave_or_refused(data):
    try:
        wave = decoded(data)
    except REFUSED:
        return
    assert 1 <= len(wave) <= CONFIG.max_samples
    assert np.isfinite(wave).all()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120))
def test_random_bytes_are_refused_or_a_wave(noise):
    wave_or_refused(noise)
    wave_or_refused(riff(noise))


@settings(max_examples=250, deadline=None)
@given(
    st.sampled_from(
        [wav(tone(440, seconds=0.01)), riff(fmt(3, bits=32), f32(0.1, 0.2))]
    ),
    st.lists(
        st.tuples(
            st.integers(0, 47), st.sampled_from([0, 1, 3, 8, 255]) | st.integers(0, 255)
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_a_changed_header_is_refused_or_a_wave(data, changes):
    data = bytearray(data)
    for place, value in changes:
        data[place] = value
    wave_or_refused(bytes(data))


def mel(hz):
    return 2595 * np.log10(1 + hz / 700)


@pytest.mark.parametrize("hz", [440, 1000, 4000])
def test_a_tone_lights_the_band_that_holds_it(hz):
    frames = log_mel(tf.constant(tone(hz)[None], tf.float32), CONFIG)

    assert frames.shape == (1, 98, 64)  # a window of 25 ms every 10 ms
    centres = np.linspace(mel(CONFIG.low_hz), mel(CONFIG.high_hz), CONFIG.bands + 2)
    band = np.argmin(np.abs(centres[1:-1] - mel(hz)))
    assert abs(int(np.argmax(frames[0].numpy().mean(axis=0))) - band) <= 1


def test_frames_of_silence_are_finite():
    frames = log_mel(tf.zeros([1600]), CONFIG)
    np.testing.assert_allclose(frames, np.log(1e-3), rtol=1e-5)


def test_one_sample_is_padded_to_one_window():
    frames = log_mel(tf.ones([1]), CONFIG)
    assert frames.shape == (1, 64)
    assert np.isfinite(frames).all()


def test_a_steady_sound_has_its_spectrum_and_no_deviation():
    frames = tf.tile(tf.range(64.0)[None], [10, 1])
    vector = audio_vector(frames, CONFIG).numpy()
    np.testing.assert_allclose(vector[:64], np.arange(64))
    np.testing.assert_allclose(vector[64:], 0, atol=1e-4)


def test_the_vector_of_the_reference_model_has_128_numbers():
    vector = audio_vector(log_mel(tf.constant(tone(440), tf.float32), CONFIG), CONFIG)
    assert vector.shape == (stats_width(CONFIG),) == (128,)


def test_loudness_moves_the_first_cepstral_coefficient_alone():
    config = AudioConfig(encoder="mfcc_stats", mfccs=13)
    frames = tf.random.stateless_uniform([20, 64], [0, 0])

    quiet, loud = (audio_vector(f, config).numpy() for f in (frames, frames + 1))

    assert quiet.shape == (stats_width(config),) == (26,)
    assert loud[0] - quiet[0] > 1
    np.testing.assert_allclose(loud[1:], quiet[1:], atol=1e-4)


def test_up_and_down_again_is_the_same_wave():
    wave = tf.constant(tone(440, seconds=0.25) + tone(3000, seconds=0.25), tf.float32)
    up = resample(wave, tf.constant(16_000), 44_100)
    again = resample(up, tf.constant(44_100), 16_000)
    assert again.shape == wave.shape
    np.testing.assert_allclose(again, wave, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 500), st.sampled_from([8000, 11_025, 16_000, 22_050, 48_000]))
def test_the_resampled_wave_is_as_long_as_its_seconds(samples, from_hz):
    result = resample(tf.zeros([samples]), tf.constant(from_hz), RATE_HZ)
    assert result.shape == (-(-samples * RATE_HZ // from_hz),)


def test_frames_are_filled_up_with_zeros_or_cut():
    config = AudioConfig(rate_hz=8000, clip_s=0.1, high_hz=3800.0)  # 8 windows
    frames = tf.ones([3, 2])
    padded = pad_frames(frames, config).numpy()
    assert padded.shape == (config.max_frames, 2) == (8, 2)
    assert padded[:3].all() and not padded[3:].any()
    assert pad_frames(tf.ones([20, 2]), config).shape == (8, 2)


@pytest.mark.parametrize(("encoder", "width"), [("cnn", 64), ("gru", 40)])
def test_an_encoder_of_frames_gets_bands_or_coefficients(encoder, width):
    config = AudioConfig(encoder=encoder)
    frames = tf.random.stateless_normal([5, 64], [0, 0])
    features = frame_features(frames, config)
    assert features.shape == (5, width) and frame_width(config) == width
    if encoder == "gru":
        expected = tf.signal.mfccs_from_log_mel_spectrograms(frames)[:, :40]
        np.testing.assert_allclose(features, expected)
