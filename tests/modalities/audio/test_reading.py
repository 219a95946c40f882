import io
import itertools
import struct

import numpy as np
import pytest
import soundfile

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.reading import prepare_audio
from mmkeras.modalities.file import Unreadable
from tests.modalities.encoded_media import (
    AUDIO_FORMATS,
    PLAIN_WAVS,
    TRANSCODED_AUDIO,
    encode_audio,
)

CONFIG = AudioConfig(clip_s=1.0)
RATE_HZ = 22_050
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE_HZ) / RATE_HZ)
STEREO = np.stack([TONE, TONE[::-1] / 2], 1)


def encode(kind, subtype, samples=STEREO, rate_hz=RATE_HZ):
    return encode_audio(samples, kind, subtype, rate_hz)


def info(data):
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        return file.format, file.subtype, file.samplerate, file.channels


@pytest.mark.parametrize(("kind", "subtype"), PLAIN_WAVS)
def test_a_plain_wav_is_unchanged(kind, subtype):
    data = encode(kind, subtype)
    assert prepare_audio(data, CONFIG) is data


def test_a_wav_with_chunks_in_an_odd_order_is_unchanged():
    data = encode("WAV", "PCM_16")
    fmt, samples = data[12:36], data[36:]
    for chunks in (samples + fmt, b"\1\2\3\4\2\0\0\0ab" + fmt + samples):
        odd = data[:12] + chunks
        assert prepare_audio(odd, CONFIG) is odd


@pytest.mark.parametrize(("kind", "subtype"), TRANSCODED_AUDIO)
def test_any_other_file_becomes_wav_with_the_same_samples(kind, subtype):
    data = encode(kind, subtype)
    expected, tolerance = TRANSCODED_AUDIO[kind, subtype]

    result = prepare_audio(data, CONFIG)

    assert info(result) == ("WAV", expected, RATE_HZ, 2)
    assert prepare_audio(result, CONFIG) is result
    samples, _ = soundfile.read(io.BytesIO(result))
    original, _ = soundfile.read(io.BytesIO(data))
    assert RATE_HZ <= len(samples) < 40_000  # one second and a margin, of three
    np.testing.assert_allclose(samples, original[: len(samples)], atol=tolerance)


def test_opus_keeps_its_tone():
    tone = np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000) / 2
    result = prepare_audio(encode("OGG", "OPUS", tone, 48_000), CONFIG)
    samples, rate_hz = soundfile.read(io.BytesIO(result))
    assert rate_hz == 48_000
    assert np.argmax(np.abs(np.fft.rfft(samples[:48_000]))) == 440


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF024])
def test_a_data_size_left_open_by_a_stream_is_filled_in(size):
    data = encode("WAV", "PCM_16", TONE)
    offset = data.find(b"data") + 4
    streamed = data[:offset] + struct.pack("<I", size) + data[offset + 4 :]
    assert prepare_audio(streamed, CONFIG) == data
    assert prepare_audio(streamed + b"x", CONFIG) == data  # half a sample


@pytest.mark.parametrize(("kind", "subtype"), AUDIO_FORMATS)
@pytest.mark.parametrize("share", [0.6, 0.97])
def test_a_truncated_file_is_refused_even_after_the_clip(kind, subtype, share):
    data = encode(kind, subtype, rate_hz=24_000 if subtype == "OPUS" else RATE_HZ)
    with pytest.raises(Unreadable, match="truncated"):
        prepare_audio(data[: int(len(data) * share)], CONFIG)


EMPTY = encode("WAV", "PCM_16", np.zeros(0))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "file is empty"),
        (b"hello" * 20, "unsupported format .supported: WAV, FLAC"),
        (EMPTY, "no audio samples"),
        (EMPTY[:44] + b"LIST\4\0\0\0abcd", "no audio samples"),
        (encode("OGG", "VORBIS", np.zeros(0)), "no audio samples"),
        (encode("WAV", "FLOAT", np.array([0.0, np.nan])), "not finite"),
        (encode("WAV", "DOUBLE", np.array([0.0, 1e300])), "not finite"),
        (encode("AU", "FLOAT", np.array([0.0, np.inf])), "not finite"),
        (encode("WAV", "PCM_16", rate_hz=500), "sample rate 500 Hz"),
        (b"RIFF\0\0\0\0WAVE", "no format or no data chunk"),
    ],
    ids=itertools.count(),  # an Ogg stream's bytes differ each time it is written
)
def test_the_reason_names_why_audio_is_unreadable(data, reason):
    with pytest.raises(Unreadable, match=reason):
        prepare_audio(data, CONFIG)


def test_vbr_mp3_without_a_written_length_is_accepted():
    noise = np.random.default_rng(0).normal(0, 0.2, RATE_HZ)
    samples = np.concatenate([np.zeros(RATE_HZ), noise, TONE])
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
    data = encode_audio(samples, "MP3", None, RATE_HZ, **options)
    second = data.find(data[:2], 4)
    assert b"Xing" in data[:second]
    assert info(prepare_audio(data[second:], CONFIG))[0] == "WAV"


def test_a_bomb_of_silence_stays_small(monkeypatch):
    monkeypatch.setattr("mmkeras.modalities.audio.reading._CHECKED_SAMPLES", 2**22)
    bomb = encode("FLAC", "PCM_16", np.zeros(2**23, np.int16), 16_000)
    assert len(prepare_audio(bomb, CONFIG)) < 50_000
    assert prepare_audio(bomb[:-9], CONFIG)  # its end is not checked
