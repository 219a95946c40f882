import struct
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio import features, mel
from mmkeras.modalities.audio.wav import law_samples
from tests.modalities.encoded_media import RATE_HZ, traced

CONFIG = AudioConfig(clip_s=1.0)
REFUSED = tf.errors.InvalidArgumentError


def decode(data, config=CONFIG):
    return traced(features.decode_wave, config)(data).numpy()


def tone(hz=440, rate_hz=RATE_HZ, seconds=1.0):
    samples = np.arange(round(rate_hz * seconds))
    return 0.5 * np.sin(2 * np.pi * hz * samples / rate_hz)


def chunk(name, content, size=None):
    size = struct.pack("<I", len(content) if size is None else size)
    return name + size + content + b"\0" * (len(content) % 2)


def fmt(code=1, channels=1, rate_hz=RATE_HZ, bits=16, extension=b"", block=None):
    block = channels * bits // 8 if block is None else block
    numbers = (code, channels, rate_hz, rate_hz * block % 2**32, block, bits)
    return chunk(b"fmt ", struct.pack("<HHIIHH", *numbers) + extension)


def riff(*chunks):
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def s16(wave):
    return np.round(32767 * wave).astype("<i2").tobytes()


def s24(wave):
    codes = np.round(wave * (2**23 - 1)).astype("<i4")
    return codes.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def f32(*values):
    return chunk(b"data", struct.pack(f"<{len(values)}f", *values))


def wav(wave, rate_hz=RATE_HZ):
    return riff(fmt(rate_hz=rate_hz), chunk(b"data", s16(wave)))


def nearest(table, wave):
    return np.abs(table - wave[:, None]).argmin(1).astype("u1").tobytes()


KINDS = {
    "u8": (1, 8, lambda w: np.round(128 + 127 * w).astype("u1").tobytes()),
    "s16": (1, 16, s16),
    "s24": (1, 24, s24),
    "s32": (1, 32, lambda w: np.round(w * (2**31 - 1)).astype("<i4").tobytes()),
    "f32": (3, 32, lambda w: w.astype("<f4").tobytes()),
    "f64": (3, 64, lambda w: w.astype("<f8").tobytes()),
    "A-law": (6, 8, lambda w: nearest(law_samples(6), w)),
    "mu-law": (7, 8, lambda w: nearest(law_samples(7), w)),
}
GUID_TAIL = b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"


@pytest.mark.parametrize("is_extensible", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_sample_format_gives_the_same_tone(kind, is_extensible):
    code, bits, encode = KINDS[kind]
    wave, header = tone(seconds=0.1), fmt(code, bits=bits)
    if is_extensible:
        extension = struct.pack("<HHIH", 22, 0, 0, code) + GUID_TAIL
        header = fmt(0xFFFE, bits=bits, extension=extension)
    result = decode(riff(header, chunk(b"data", encode(wave))))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, wave, atol=1 / 60 if bits == 8 else 1e-4)


WAVE = tone(seconds=0.1)
DATA = chunk(b"data", s16(WAVE))
STEREO = s16(np.stack([WAVE, np.zeros(1600)], axis=1))
ODD = chunk(b"LIST", b"INFOx"), fmt(), chunk(b"fact", b"odd")
LONG = np.concatenate([tone(), np.zeros(RATE_HZ)])
WAVES = {
    "channels are averaged": (riff(fmt(channels=2), chunk(b"data", STEREO)), WAVE / 2),
    "silence": (wav(np.zeros(100)), np.zeros(100)),
    "longer than the clip": (wav(LONG), tone()),
    "streamed": (riff(fmt(), chunk(b"data", s16(WAVE), size=0xFFFFFFFF)), WAVE),
    "of an open size": (riff(fmt(), chunk(b"data", s16(WAVE), size=0)), WAVE),
    "of a size that counts the header": (
        riff(fmt(), chunk(b"data", s16(WAVE), size=3244)),
        WAVE,
    ),
    "of a wrong block size": (riff(fmt(block=7), DATA), WAVE),
    "chunks of odd length before": (riff(*ODD, DATA), WAVE),
    "the data before the format": (riff(DATA, fmt()), WAVE),
    "an odd chunk in front": (riff(chunk(b"\1\2\3\4", b"ab"), fmt(), DATA), WAVE),
    "a chunk after": (riff(fmt(), DATA, chunk(b"LIST", b"\x7f" * 64)), WAVE),
    "cut inside a sample": (wav(WAVE)[:-33], WAVE[:-17]),
}


@pytest.mark.parametrize("name", WAVES)
def test_the_wave_is_that_of_the_data_chunk(name):
    data, expected = WAVES[name]
    np.testing.assert_allclose(decode(data), expected, atol=1e-4 * expected.any())


# In the last one samples * rate exceeds 32 bits.
@pytest.mark.parametrize("rate_hz", [8000, 11_025, 22_050, 44_100, 96_000, 200_003])
def test_a_440_hz_tone_of_any_rate_stays_a_440_hz_tone(rate_hz):
    result = decode(wav(tone(440, rate_hz), rate_hz))

    assert result.shape == (RATE_HZ,)
    spectrum = np.abs(np.fft.rfft(result)) / (RATE_HZ / 2)  # bins of 1 Hz
    assert np.argmax(spectrum) == 440
    assert spectrum[440] == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_allclose(result, tone(440), atol=1e-3)


def test_a_tone_above_the_new_nyquist_frequency_is_silenced():
    assert np.abs(decode(wav(tone(10_000, 48_000), 48_000))).max() < 1e-3


ZEROS = chunk(b"data", b"\0" * 20)
BROKEN = {
    "no samples": riff(fmt(), chunk(b"data", b"")),
    "half a sample": riff(fmt(), chunk(b"data", b"\1")),
    "no samples chunk": riff(fmt(), chunk(b"LIST", b"xx")),
    "no format": riff(ZEROS),
    "a NaN": riff(fmt(3, bits=32), f32(0.0, float("nan"))),
    "an infinity": riff(fmt(3, bits=32), f32(0.0, float("inf"))),
    "no channels": riff(fmt(channels=0), ZEROS),
    "no rate": riff(fmt(rate_hz=0), ZEROS),
    "a rate of millions": riff(fmt(rate_hz=5_000_000), ZEROS),
    "samples without bits": riff(fmt(bits=0), ZEROS),
    "ADPCM": riff(fmt(17, bits=4), ZEROS),
    "24 bits in 4 bytes": riff(fmt(bits=24, block=4), ZEROS),
    "half a file": wav(WAVE)[:1600],
    "an empty chunk before another": riff(fmt(), chunk(b"data", b""), ZEROS),
    "65 channels": riff(fmt(channels=65), chunk(b"data", b"\0" * 1300)),
    "an extension that is too short": riff(fmt(0xFFFE, extension=b"\0" * 8), ZEROS),
    "RIFX": b"RIFX" + wav(np.zeros(9))[4:],
    "a video": riff().replace(b"WAVE", b"AVI "),
} | {f"{length} bytes": wav(WAVE)[:length] for length in range(0, 45, 4)}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_refused(name):
    with pytest.raises(REFUSED):
        decode(BROKEN[name])


@pytest.mark.parametrize("hz", [440, 1000, 4000])
def test_a_tone_lights_its_band(hz):
    frames = features.log_mel(tf.constant(tone(hz)[None], tf.float32), CONFIG)

    assert frames.shape == (1, 98, 64)  # a window of 25 ms every 10 ms
    limits = mel.hz_to_mel(CONFIG.low_hz), mel.hz_to_mel(CONFIG.high_hz)
    centers = np.linspace(*limits, CONFIG.bands + 2)[1:-1]
    band = np.argmin(np.abs(centers - mel.hz_to_mel(hz)))
    assert abs(int(np.argmax(frames[0].numpy().mean(axis=0))) - band) <= 1


def test_silence_is_finite_and_one_sample_is_padded_to_one_window():
    frames = features.log_mel(tf.zeros([1]), CONFIG)
    assert frames.shape == (1, 64)
    np.testing.assert_allclose(frames, np.log(1e-3), rtol=1e-5)


def test_constant_frames_are_their_mean_without_deviation():
    vector = features.audio_vector(
        tf.tile(tf.range(64.0)[None], [10, 1]), CONFIG
    ).numpy()
    assert (
        vector.shape == (features.stats_width(CONFIG),) == (128,)
    )  # as the reference model
    np.testing.assert_allclose(vector[:64], np.arange(64))
    np.testing.assert_allclose(vector[64:], 0, atol=1e-4)


def test_loudness_moves_the_first_cepstral_coefficient_alone():
    config = AudioConfig(encoder="mfcc_stats", mfccs=13)
    frames = tf.random.stateless_uniform([20, 64], [0, 0])

    quiet, loud = (
        features.audio_vector(f, config).numpy() for f in (frames, frames + 1)
    )

    assert quiet.shape == (features.stats_width(config),) == (26,)
    assert loud[0] - quiet[0] > 1
    np.testing.assert_allclose(loud[1:], quiet[1:], atol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 3, 10])
@pytest.mark.parametrize("encoder", ["log_mel_stats", "mfcc_stats"])
def test_each_segment_has_statistics_of_its_own_frames(encoder, frames):
    config = AudioConfig(encoder=encoder, segments=3, bands=8, mfccs=4)
    mel = tf.random.stateless_uniform([frames, 8], [0, 0])

    vector = features.audio_vector(mel, config).numpy()

    one = replace(config, segments=1)
    starts = [frames * i // 3 for i in range(3)]
    ends = [max(frames * (i + 1) // 3, starts[i] + 1) for i in range(3)]
    parts = [mel[a:b] for a, b in zip(starts, ends, strict=True)]
    expected = np.concatenate([features.audio_vector(p, one) for p in parts])
    assert vector.shape == (features.stats_width(config),)
    np.testing.assert_allclose(vector, expected, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 500), st.sampled_from([8000, 11_025, 16_000, 22_050, 48_000]))
def test_the_resampled_wave_has_the_length_of_its_seconds(samples, from_hz):
    result = features.resample(tf.zeros([samples]), tf.constant(from_hz), RATE_HZ)
    assert result.shape == (-(-samples * RATE_HZ // from_hz),)


def test_frames_are_padded_with_zeros_or_cut():
    config = AudioConfig(rate_hz=8000, clip_s=0.1, high_hz=3800.0)  # 8 windows
    padded = features.pad_frames(tf.ones([3, 2]), config).numpy()
    assert padded.shape == (config.max_frames, 2) == (8, 2)
    assert padded[:3].all() and not padded[3:].any()
    assert features.pad_frames(tf.ones([20, 2]), config).shape == (8, 2)


@pytest.mark.parametrize(("encoder", "width"), [("cnn", 64), ("gru", 40)])
def test_an_encoder_of_frames_gets_bands_or_coefficients(encoder, width):
    config = AudioConfig(encoder=encoder)
    frames = tf.random.stateless_normal([5, 64], [0, 0])
    result = features.frame_features(frames, config)
    assert result.shape == (5, width) and features.frame_width(config) == width
    expected = tf.signal.mfccs_from_log_mel_spectrograms(frames)[:, :40]
    np.testing.assert_allclose(result, expected if encoder == "gru" else frames)
