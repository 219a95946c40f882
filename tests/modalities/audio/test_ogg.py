import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.ogg import split_ogg
from mmkeras.modalities.audio.reading import prepare_audio, read_audio
from mmkeras.modalities.file import Unreadable
from tests.modalities.encoded_media import decode_audio, encode_audio

LONG = AudioConfig(clip_s=60.0)

FIRST, LAST = 2, 4


def page(flags, content=b"", serial=7):
    sizes = [255] * (len(content) // 255) + [len(content) % 255]
    numbers = struct.pack("<BBqIIIB", 0, flags, 0, serial, 0, 0, len(sizes))
    return b"OggS" + numbers + bytes(sizes) + content


def link(content):
    return page(FIRST, b"head") + page(0, content) + page(LAST, b"tail")


@given(st.lists(st.binary(max_size=600), min_size=1, max_size=4))
def test_links_are_split_whatever_their_content(contents):
    links = [link(content) for content in [*contents, b"OggS" * 99]]
    assert split_ogg(b"".join(links)) == (links, True)


def test_streams_of_one_link_start_together():
    data = page(FIRST) + page(FIRST, serial=8) + page(0) + page(LAST, serial=8)
    assert split_ogg(data + page(FIRST)) == ([data, page(FIRST)], False)


@given(st.integers(1, len(page(LAST, b"tail")) - 1))
def test_a_file_that_ends_inside_a_page_is_refused(missing):
    with pytest.raises(Unreadable, match="truncated Ogg"):
        split_ogg(link(b"x")[:-missing])


@pytest.mark.parametrize(
    "data",
    [
        page(0, b"x") + link(b"y"),  # a capture that joins a stream midway
        link(b"x") + b"junk" + link(b"y"),
        link(b"x") + link(b"y").replace(b"OggS", b"OggX", 1),
    ],
)
def test_a_part_of_a_file_is_refused(data):
    with pytest.raises(Unreadable, match="Ogg"):
        split_ogg(data)


@given(st.binary(max_size=60), st.sampled_from([b"OggS", page(FIRST), link(b"x")]))
def test_any_bytes_are_links_or_refused(noise, start):
    try:
        links, _ = split_ogg(start + noise)
    except Unreadable:
        return
    assert b"".join(links) == start + noise


def test_bytes_behind_the_last_page_are_ignored():
    data = link(b"x") + b"TAG" + bytes(125)
    assert split_ogg(data) == ([data], True)


def ogg(hz, subtype="VORBIS", rate_hz=16_000):
    tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(rate_hz) / rate_hz)
    return encode_audio(tone, "OGG", subtype, rate_hz)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_all_links_of_a_chained_ogg_are_read(subtype):
    data = ogg(300, subtype) + ogg(900, subtype)
    samples = decode_audio(data).reshape(2, 16_000)
    assert np.argmax(np.abs(np.fft.rfft(samples)), axis=1).tolist() == [300, 900]
    assert read_audio(data, LONG).seconds == 2
    with pytest.raises(Unreadable, match="truncated"):
        prepare_audio(data[:-99], LONG)


def test_links_of_different_rates_are_refused():
    with pytest.raises(Unreadable, match="OGG whose rate or channels change"):
        prepare_audio(ogg(300) + ogg(300, rate_hz=8_000), LONG)


def test_an_ogg_without_end_of_stream_is_read_with_a_note():
    data = ogg(300)
    last = data.rfind(b"OggS")
    page = bytearray(data[last:])
    page[5] &= ~4
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", ogg_checksum(page))
    audio = read_audio(data[:last] + page, LONG)
    assert audio.seconds == 1 and "no end-of-stream" in audio.notes[0]
    samples, _ = soundfile.read(io.BytesIO(audio.wav))
    np.testing.assert_array_equal(samples[:15_000], decode_audio(data)[:15_000])


def ogg_checksum(page):
    remainder = 0
    for octet in page:
        remainder ^= octet << 24
        for _ in range(8):
            high = remainder & 0x80000000
            remainder = (remainder << 1 ^ (0x04C11DB7 if high else 0)) & 0xFFFFFFFF
    return remainder
