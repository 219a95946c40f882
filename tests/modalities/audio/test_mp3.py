import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.mp3 import (
    announced_mp3,
    is_mpeg,
    whole_frames,
    without_id3,
)
from mmkeras.modalities.audio.reading import prepare_audio, read_audio
from mmkeras.modalities.file import Unreadable
from tests.modalities.encoded_media import decode_audio, encode_audio

LONG = AudioConfig(clip_s=60.0)
RATE_HZ = 22_050
TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE_HZ) / RATE_HZ)


@given(st.binary(max_size=40), st.sampled_from([b"", b"ID3", b"\xff\xfb\x90\0"]))
def test_any_bytes_have_a_start_and_an_end(noise, start):
    data = without_id3(start + noise)
    content, has_length = announced_mp3(data)
    assert len(content) <= len(data) and has_length in (True, False)
    assert data.startswith(whole_frames(data)[0])


def test_many_tags_are_removed():
    tag = b"ID3\4\0\0\0\0\0\2ab"
    assert without_id3(9999 * (tag + b"\0") + b"x") == b"x"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"\xff\xfb\x90\0", True),
        (b"\xff\xf3\x90\0", True),  # MPEG 2
        (b"\xff\xe3\x90\0", True),  # MPEG 2.5
        (b"\xff\xfd\x90\0", True),  # layer II
        (b"\xff\xf9\x90\0", False),  # AAC
        (b"\xff\xfb\x9c\0", False),  # no rate
        (b"RIFF", False),
        (b"", False),
    ],
)
def test_frames_of_mpeg_audio_are_told_from_other_data(header, expected):
    assert is_mpeg(header) == expected


def test_a_bit_reservoir_of_many_frames_loses_no_samples():
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(6 * 44_100) / 44_100)
    options = {"bitrate_mode": "CONSTANT", "compression_level": 0.99}
    data = encode_audio(tone, "MP3", None, 44_100, **options)
    assert len(data) < 6 * 33_000 / 8  # 32 kbit/s
    middle = decode_audio(data)[44_100:-44_100]
    loudness = np.abs(middle[: len(middle) // 441 * 441].reshape(-1, 441)).max(1)
    assert loudness.min() > 0.45  # no gap in any 10 ms


def vbr_mp3():
    """A loud start, from which a guess of the length is far too short."""
    noise = np.random.default_rng(0).normal(0, 0.2, 3 * RATE_HZ)
    samples = np.concatenate([noise, TONE, np.zeros(3 * RATE_HZ)])
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
    data = encode_audio(samples, "MP3", None, RATE_HZ, **options)
    second = data.find(data[:2], 4)
    assert b"Xing" in data[:second]
    return data, data[second:], len(samples)


def ape(content):
    numbers = struct.pack("<III", 2000, 32 + len(content), 1)
    head, foot = (numbers + struct.pack("<I", flag << 29) for flag in (5, 4))
    parts = (head, bytes(8), content, b"APETAGEX", foot, bytes(8))
    return b"APETAGEX" + b"".join(parts)


ID3V1, APE = b"TAG" + bytes(125), ape(b"cover" * 999)
ZEROS = bytes(20_000)
TAILS = [b"", ID3V1, APE, APE + ID3V1, ZEROS]
TAILS += [bytes(3000) + tag + ZEROS for tag in (ID3V1, APE, APE + ZEROS + ID3V1)]


@pytest.mark.parametrize("tail", TAILS)
def test_vbr_mp3_without_a_written_length_is_read_whole(tail):
    data, bare, samples = vbr_mp3()
    audio = read_audio(bare + tail, LONG)
    result, _ = soundfile.read(io.BytesIO(audio.wav))
    assert samples < len(result) < samples + 3_000  # the delay of the encoder
    assert audio.seconds == len(result) / RATE_HZ and not audio.notes
    assert len(decode_audio(data + tail)) == samples


@pytest.mark.parametrize("missing", [1, 12, 24])
def test_an_incomplete_last_frame_without_announced_length_is_left_out(missing):
    data, bare, _ = vbr_mp3()  # its last frames have 26 bytes
    audio = read_audio(bare[:-missing] + ID3V1, LONG)
    reference = read_audio(bare, LONG)
    frame_s = 576 / RATE_HZ
    assert audio.seconds == pytest.approx(reference.seconds - frame_s)
    assert "last frame" in audio.notes[0] and not reference.notes
    with pytest.raises(Unreadable, match="announced"):
        read_audio(data[:-missing], LONG)


@pytest.mark.parametrize(
    ("header", "size"),  # FFmpeg has the same sizes
    [
        (b"\xff\xfb\x90\0", 417),
        (b"\xff\xfb\x92\0", 418),  # padded
        (b"\xff\xf3\x80\0", 208),  # MPEG 2
        (b"\xff\xe3\x80\0", 417),  # MPEG 2.5
        (b"\xff\xfd\xa4\0", 576),  # layer II
        (b"\xff\xf5\xa4\0", 576),  # layer II of MPEG 2
        (b"\xff\xff\xc0\0", 416),  # layer I
    ],
)
def test_frames_have_the_size_of_their_header(header, size):
    frames = 2 * (header + bytes(size - 5) + b"x")
    assert whole_frames(frames) == (frames, ())
    assert whole_frames(frames + bytes(9)) == (frames, ())
    content, notes = whole_frames(frames[:-1])
    assert content == frames[:size] and notes


def test_an_mp3_that_announces_no_frames_is_read_whole():
    data, _, length = vbr_mp3()
    frames = data.find(b"Xing") + 8
    unknown = data[:frames] + bytes(4) + data[frames + 4 :]
    assert len(decode_audio(unknown)) >= length


def test_an_mp3_behind_another_is_read_too():
    data, bare, samples = vbr_mp3()
    for second in (data, bare):
        assert len(decode_audio(data + second)) > 2 * samples


def test_damage_of_an_mp3_prints_nothing(capfd):
    data, bare, _ = vbr_mp3()
    for offset in np.random.default_rng(1).integers(500, len(data), 30):
        data = data[:offset] + b"\x55" + data[offset + 1 :]
    for damaged in (data, bare + b"junk" * 999):
        with pytest.raises(Unreadable, match="truncated MP3"):
            prepare_audio(damaged, LONG)
    assert capfd.readouterr() == ("", "")
