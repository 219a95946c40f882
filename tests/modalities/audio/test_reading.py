import io
import itertools
import struct

import numpy as np
import pytest
import soundfile

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.reading import prepare_audio, read_audio
from mmkeras.modalities.file import Unreadable
from tests.modalities.encoded_media import (
    AUDIO_FORMATS,
    PLAIN_WAVS,
    TRANSCODED_AUDIO,
    decode_audio,
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


def test_a_format_behind_the_samples_is_kept():
    data = encode("WAV", "PCM_16")
    fmt, samples = data[12:36], data[44:]
    for missing in (0, 2):  # half a frame
        content = samples[: len(samples) - missing]
        odd = data[:12] + chunk(b"data", content) + fmt
        audio = read_audio(odd, CONFIG)
        assert audio.wav == odd and audio.seconds == pytest.approx(3, abs=1e-3)
    with pytest.raises(Unreadable, match="no format"):
        prepare_audio(data[:12] + chunk(b"data", samples, 0) + fmt, CONFIG)


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
        (b"ID3\3\0\0\0\0\1\0", "unsupported format"),
        (b"hello" * 20, "unsupported format .supported: WAV, FLAC"),
        (EMPTY, "no audio samples"),
        (EMPTY[:44] + b"LIST\4\0\0\0abcd", "no audio samples"),
        (encode("OGG", "VORBIS", np.zeros(0)), "no audio samples"),
        (encode("WAV", "FLOAT", np.array([0.0, np.nan])), "not finite"),
        (encode("WAV", "DOUBLE", np.array([0.0, 1e300])), "not finite"),
        (encode("AU", "FLOAT", np.array([0.0, np.inf])), "not finite"),
        (encode("WAV", "PCM_16", rate_hz=500), "sample rate 500 Hz"),
        (b"RIFF\0\0\0\0WAVE", "no format or no data chunk"),
        (encode("WAV", "PCM_24").replace(b"\6\0\x18", b"\x08\0\x18"), "ambiguous"),
    ],
    ids=itertools.count(),  # an Ogg stream's bytes differ each time it is written
)
def test_the_reason_names_why_audio_is_unreadable(data, reason):
    with pytest.raises(Unreadable, match=reason):
        prepare_audio(data, CONFIG)


RNG = np.random.default_rng(0)


def music(rate_hz, seconds=3, channels=1):
    t = np.arange(seconds * rate_hz) / rate_hz
    noise = RNG.normal(0, 0.05, (len(t), channels))
    return 0.4 * np.sin(2 * np.pi * 300 * t)[:, None] + noise


MP3_MODES = list(itertools.product(["CONSTANT", "VARIABLE"], [0.0, 0.99]))
LOSSY = [("MP3", None, hz, *mode) for hz in (8_000, 44_100) for mode in MP3_MODES]
LOSSY += [
    ("OGG", subtype, 48_000, None, level)
    for subtype in ("VORBIS", "OPUS")
    for level in (0.0, 0.99)
]


@pytest.mark.parametrize(("kind", "subtype", "rate_hz", "mode", "level"), LOSSY)
def test_lossy_audio_is_read_as_by_one_call(kind, subtype, rate_hz, mode, level):
    options = {"compression_level": level} | ({"bitrate_mode": mode} if mode else {})
    data = encode_audio(music(rate_hz), kind, subtype, rate_hz, **options)
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    samples = decode_audio(data)
    np.testing.assert_allclose(samples, expected, atol=1e-6)
    of_ffmpeg = decode_by_ffmpeg(data)
    if (subtype, level) == ("OPUS", 0.99):  # resampled, and no decoder is prescribed
        assert len(samples) == len(of_ffmpeg)
    else:
        np.testing.assert_allclose(samples, of_ffmpeg, atol=1e-5)


def decode_by_ffmpeg(data):
    av = pytest.importorskip("av")
    to_float = av.AudioResampler(format="flt")
    with av.open(io.BytesIO(data)) as file:
        frames = [part for f in file.decode(audio=0) for part in to_float.resample(f)]
    return np.concatenate([frame.to_ndarray().ravel() for frame in frames])


def test_a_flac_of_unknown_length_is_read_to_its_end():
    data = encode_audio(TONE, "FLAC", "PCM_16", RATE_HZ)
    unknown = bytearray(data)
    unknown[21] &= 0xF0
    unknown[22:26] = bytes(4)  # 36 bits of samples
    audio = read_audio(bytes(unknown), CONFIG)
    assert audio == read_audio(data, CONFIG) and audio.seconds == 3
    with pytest.raises(Unreadable, match="lost sync"):
        prepare_audio(bytes(unknown[:-99]), CONFIG)


def test_a_flac_behind_another_is_refused():
    data = encode_audio(TONE, "FLAC", "PCM_16", RATE_HZ)
    with pytest.raises(Unreadable, match="several FLAC streams"):
        prepare_audio(data + data, CONFIG)
    assert prepare_audio(data + b"TAG" + bytes(125), CONFIG)


ID3 = b"ID3\3\0\0\0\0\1\0" + bytes(128)


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC", "OGG", "MP3"])
def test_an_id3_tag_in_front_changes_nothing(kind):
    data = encode_audio(TONE, kind, None, RATE_HZ)
    assert prepare_audio(ID3 + data, CONFIG) == prepare_audio(data, CONFIG)


def chunk(name, content, size=None):
    size = len(content) if size is None else size
    return name + struct.pack("<I", size) + content + b"\0" * (len(content) % 2)


def riff(*chunks):
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def fmt(code=1, bits=16, block=2, extension=b""):
    numbers = (code, 1, RATE_HZ, 2 * RATE_HZ, block, bits)
    return chunk(b"fmt ", struct.pack("<HHIIHH", *numbers) + extension)


@pytest.mark.parametrize("tag", [b"", ID3])
def test_mp3_in_a_wav_is_that_mp3(tag):
    data = encode_audio(TONE, "MP3", None, RATE_HZ)
    header = fmt(0x55, 0, 1, struct.pack("<HHIHHH", 12, 1, 2, 288, 1, 1393))
    wrapped = riff(header, chunk(b"data", tag + data))
    assert prepare_audio(wrapped, CONFIG) == prepare_audio(data, CONFIG)


SAMPLES = (32_767 * TONE).astype("<i2").tobytes()
PLAIN = riff(fmt(), chunk(b"data", SAMPLES))


@pytest.mark.parametrize("block", [0, 1, 4, 16])
def test_a_wrong_block_size_is_ignored(block):
    data = riff(fmt(block=block), chunk(b"data", SAMPLES))
    assert prepare_audio(data, CONFIG) is data
    np.testing.assert_array_equal(
        *(soundfile.read(io.BytesIO(d))[0] for d in (data, PLAIN))
    )


def test_a_size_that_counts_the_header_is_corrected_with_a_note():
    tag = chunk(b"LIST", b"INFO" + bytes(900))
    for head, size in [(b"", len(SAMPLES) + n) for n in (16, 36, 44)] + [
        (tag, len(tag + PLAIN)),
        (tag, len(tag + PLAIN) - 8),
    ]:
        data = riff(fmt(), head, chunk(b"data", SAMPLES, size))
        audio = read_audio(data, CONFIG)
        assert audio.wav == riff(fmt(), head, chunk(b"data", SAMPLES))
        assert str(size) in audio.notes[0] and audio.seconds == 3
    with pytest.raises(Unreadable, match="truncated WAV"):
        prepare_audio(riff(fmt(), chunk(b"data", SAMPLES, len(SAMPLES) + 46)), CONFIG)


def test_a_size_of_adpcm_that_counts_the_header_is_read_with_a_note():
    data = encode_audio(TONE, "WAV", "IMA_ADPCM", RATE_HZ)
    offset = data.find(b"data") + 4
    (size,) = struct.unpack_from("<I", data, offset)
    wrong = data[:offset] + struct.pack("<I", size + 44) + data[offset + 4 :]
    audio = read_audio(wrong, CONFIG)
    assert audio.wav == prepare_audio(data, CONFIG) and str(size + 44) in audio.notes[0]
    streamed = data[:offset] + bytes(4) + data[offset + 4 :]
    assert prepare_audio(streamed, CONFIG) == audio.wav


def test_a_chain_of_links_is_checked_up_to_the_same_limit(monkeypatch):
    read, blocks = soundfile.SoundFile.read, []
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda *a, **k: blocks.append(1) or read(*a, **k)
    )
    chain = 3 * encode("OGG", "OPUS", TONE, 48_000)
    assert read_audio(chain, CONFIG).seconds == pytest.approx(3 * len(TONE) / 48_000)
    assert len(blocks) == 6
    limit = "mmkeras.modalities.audio.reading._CHECKED_SAMPLES"
    monkeypatch.setattr(limit, len(TONE))
    blocks.clear()
    read_audio(chain, CONFIG)
    assert len(blocks) == 4  # two of the first link, one of each other


def test_a_bomb_of_silence_stays_small(monkeypatch):
    monkeypatch.setattr("mmkeras.modalities.audio.reading._CHECKED_SAMPLES", 2**22)
    bomb = encode("FLAC", "PCM_16", np.zeros(2**23, np.int16), 16_000)
    assert len(prepare_audio(bomb, CONFIG)) < 50_000
    assert prepare_audio(bomb[:-9], CONFIG)  # its end is not checked
