import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkeras.modalities.audio.ogg import split_ogg
from mmkeras.modalities.file import Unreadable

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
