import io
import struct

import numpy as np
import pytest
import soundfile

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.metadata import measure_audio
from mmkeras.modalities.audio.reading import read_audio
from tests.modalities.encoded_media import PLAIN_WAVS, RATE_HZ
from tests.modalities.encoded_media import encode_audio as encode

TONE = np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)
SQUARE = np.sign(TONE + 1e-9)
LOSSLESS = [("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("AIFF", "PCM_16")]
FORMATS = [*PLAIN_WAVS, *LOSSLESS, ("RF64", "PCM_16"), ("CAF", "ALAC_16")]
LOSSY = [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
LOSSY += [("WAV", "ULAW"), ("WAV", "IMA_ADPCM")]


def measure(data, clip_s=5.0):
    """Seconds, and the shares of clipping and of silence."""
    result = measure_audio(read_audio(data, AudioConfig(clip_s=clip_s)), clip_s)
    return [result[name] for name in ("seconds", "clipped", "silent")]


def sine_44k(amplitude, hz):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(44_100) / 44_100)


@pytest.mark.parametrize(("kind", "subtype"), FORMATS)
def test_silence_is_silent_a_square_clipped_and_a_tone_neither(kind, subtype):
    assert measure(encode(0 * TONE, kind, subtype)) == [1.0, 0.0, 1.0]
    assert measure(encode(SQUARE, kind, subtype)) == [1.0, 1.0, 0.0]
    assert measure(encode(TONE / 2, kind, subtype)) == [1.0, 0.0, 0.0]
    # The length is that of the file, and the shares are those of the clip.
    data = encode(np.concatenate([0 * TONE, SQUARE, SQUARE]), kind, subtype)
    assert measure(data, clip_s=1.0) == [3.0, 0.0, 1.0]
    assert measure(data, clip_s=2.0) == [3.0, 0.5, 0.5]


@pytest.mark.parametrize(("kind", "subtype"), LOSSY)
def test_lossy_coding_changes_none_of_that(kind, subtype):
    seconds, clipped, silent = measure(encode(0 * TONE, kind, subtype))
    assert seconds == pytest.approx(1, abs=0.1) and (clipped, silent) == (0, 1)
    seconds, clipped, silent = measure(encode(TONE / 2, kind, subtype))
    assert seconds == pytest.approx(1, abs=0.1) and clipped == 0 and silent < 0.1


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_tone_that_only_touches_full_scale_is_not_clipped(subtype):
    assert measure(encode(TONE, subtype=subtype))[1] == 0
    low = encode(sine_44k(1, 100), subtype=subtype, rate_hz=44_100)
    assert measure(low)[1] == 0


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_flat_tops_are_clipped_by_their_share(subtype):
    _, clipped, _ = measure(encode((2 * TONE).clip(-1, 1), subtype=subtype))
    # |sin| is above a half for two thirds of the time.
    assert clipped == pytest.approx(2 / 3, abs=0.03)


@pytest.mark.parametrize(("run", "clipped"), [(2, 0), (3, 3), (7, 7)])
def test_two_samples_at_full_scale_are_a_peak_and_three_a_flat_top(run, clipped):
    samples = TONE[:1000] / 2
    samples[500 : 500 + run] = -1
    assert measure(encode(samples))[1] == pytest.approx(clipped / 1000)


def test_neither_peaks_beyond_full_scale_nor_flat_tops_below_it_are_clipped():
    low = sine_44k(1.08, 200)
    assert measure(encode(low, subtype="FLOAT", rate_hz=44_100))[1] == 0
    loud = encode(1.5 * low.clip(-0.99, 0.99), "OGG", "VORBIS", 44_100)
    assert soundfile.read(io.BytesIO(loud))[0].max() > 1.3
    assert measure(loud)[1] < 0.001
    assert measure(encode(0.9 * SQUARE))[1] == 0
    flat = encode(low.clip(-1.02, 1.02), subtype="FLOAT", rate_hz=44_100)
    assert measure(flat)[1] == pytest.approx(0.21, abs=0.02)  # asin(1.02 / 1.08)


def test_a_flat_top_is_within_one_channel():
    stereo = np.stack([SQUARE, TONE / 2], 1)
    assert measure(encode(stereo))[1:] == [0.5, 0.0]
    alternating = np.stack([TONE / 2, TONE / 2], 1)
    alternating[[100, 102], 0] = alternating[[101, 103], 1] = 1
    assert measure(encode(alternating))[1] == 0


@pytest.mark.parametrize(("dbfs", "silent"), [(None, 0.5), (-50, 0.0), (-58, 0.5)])
def test_half_a_second_of_silence_is_half_silent(dbfs, silent):
    half = np.where(np.arange(RATE_HZ) < RATE_HZ // 2, TONE, 0)
    faint = 0 if dbfs is None else 10 ** (dbfs / 20)  # RMS is 3 dB lower
    samples = half / 2 if dbfs is None else half + faint * TONE
    assert measure(encode(samples, subtype="PCM_24"))[2] == silent


def test_one_audible_channel_is_enough_and_an_offset_is_silent():
    quiet = np.zeros((RATE_HZ, 8))
    assert measure(encode(quiet + 0.25))[2] == 1.0
    quiet[:, 3] = 0.002 * TONE
    assert measure(encode(quiet))[2] == 0.0


def test_audio_shorter_than_a_frame_is_one_frame():
    assert measure(encode(np.zeros(5)))[2] == 1.0
    assert measure(encode(TONE[:5]))[2] == 0.0
    assert measure(encode(np.zeros(1)))[1:] == [0.0, 1.0]
    assert [measure(encode(np.ones(n)))[1] for n in (1, 2, 3)] == [0, 0, 1]


def test_rate_and_channels_are_those_of_the_file():
    data = encode(np.zeros((800, 3)), "FLAC", rate_hz=8_000)
    result = measure_audio(read_audio(data, AudioConfig()), 1.0)
    assert (result["rate_hz"], result["channels"]) == (8_000, 3)
    floats = dict.fromkeys(("seconds", "clipped", "silent"), float)
    kinds = {"rate_hz": int, "channels": int} | floats
    assert {name: type(value) for name, value in result.items()} == kinds


def test_floats_far_beyond_full_scale_are_clipped():
    assert measure(encode(3e38 * SQUARE, subtype="FLOAT")) == [1.0, 1.0, 0.0]
    assert measure(encode(32_768 * TONE, subtype="DOUBLE"))[1] > 0.99


def test_an_endless_clip_is_measured_at_its_start_only(monkeypatch):
    data = encode(np.concatenate([0 * TONE, SQUARE]))
    monkeypatch.setattr("mmkeras.modalities.audio.metadata._MEASURED_SAMPLES", RATE_HZ)
    assert measure(data, clip_s=1e6) == [2.0, 0.0, 1.0]


def test_a_wav_that_libsndfile_refuses_is_measured():
    wav = encode(SQUARE, subtype="PCM_16")
    odd = wav[:12] + wav[36:] + wav[12:36]  # the data before the format
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(io.BytesIO(odd))
    assert measure(odd) == [1.0, 1.0, 0.0]
    for size in (0, 0xFFFFFFFF):  # left open by a stream
        streamed = wav[:40] + struct.pack("<I", size) + wav[44:]
        assert measure(streamed) == [1.0, 1.0, 0.0]
