import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkeras.modalities.audio.mp3 import announced_mp3, is_mpeg, without_id3


@given(st.binary(max_size=40), st.sampled_from([b"", b"ID3", b"\xff\xfb\x90\0"]))
def test_any_bytes_have_a_start_and_an_end(noise, start):
    data = without_id3(start + noise)
    content, has_length = announced_mp3(data)
    assert len(content) <= len(data) and has_length in (True, False)


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
