import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkeras.modalities.audio.mp3 import announced_mp3, is_mp3, without_id3


@given(st.binary(max_size=40), st.sampled_from([b"", b"ID3", b"\xff\xfb\x90\0"]))
def test_any_bytes_have_a_start_and_an_end(noise, start):
    data = without_id3(start + noise)
    content, has_length = announced_mp3(data)
    assert len(content) <= len(data) and has_length in (True, False)


@pytest.mark.parametrize(
    "header", [b"\xff\xfb\x90\0", b"\xff\xf3\x90\0", b"\xff\xe3\x90\0"]
)
def test_layer_3_of_mpeg_1_2_and_2_5_is_mp3(header):
    assert is_mp3(header)


@pytest.mark.parametrize("header", [b"", b"\xff\xfd\x90\0", b"\xff\xfb\x9c\0", b"RIFF"])
def test_other_layers_and_formats_are_not(header):
    assert not is_mp3(header)
