"""Property tests: the graph reads headers as Python does."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmkeras.modalities.image import header_ops, headers
from tests.modalities.encoded_media import (
    CUTS,
    FLIPS,
    damage,
    encode_image,
    exif,
    png_chunk,
    traced,
)

NOISE = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
EXIF = exif(6)[6:]
JPEGS = [
    encode_image(NOISE, "JPEG", "CMYK"),
    encode_image(NOISE, "JPEG", exif=exif(6)),
    encode_image(NOISE, "JPEG", progressive=True, comment=b"x" * 300),
]
PNG = encode_image(NOISE)
PNGS = [PNG, PNG[:33] + png_chunk(b"eXIf", EXIF) + PNG[33:]]
QUANTIZED = Image.fromarray(NOISE).quantize(9)
GIFS = [
    encode_image(QUANTIZED, "GIF", **options)
    for options in ({}, {"transparency": 2}, {"comment": b"x" * 600})
]
SEGMENTS = st.tuples(
    st.sampled_from(
        [0, 0xFF01, 0xFFC4, 0xFFD0, 0xFFDB, 0xFFE0, 0xFFE1, 0xFFE2, 0xFFFE, 0xFFFF]
    ),
    st.sampled_from([b"", headers.EXIF, headers.EXIF + EXIF]) | st.binary(max_size=30),
)


def same_of_jpeg(data):
    exif_block, (*_, components) = headers.jpeg_header(data)
    assert traced(header_ops.jpeg_exif)(data).numpy() == (exif_block or b"")
    offset, is_exif, is_frame = (
        tensor.numpy() for tensor in traced(header_ops.find_exif_or_frame)(data)
    )
    assert is_exif == (exif_block is not None)
    if not is_exif and components:
        assert is_frame and data[offset + 9] == components


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(JPEGS), st.lists(SEGMENTS, max_size=4), CUTS, FLIPS)
def test_a_jpeg_has_one_header(data, segments, cut, flips):
    extra = b"".join(
        struct.pack(">HH", marker, len(content) + 2) + content
        for marker, content in segments
    )
    same_of_jpeg(damage(data[:2] + extra + data[2:], cut, flips))


@pytest.mark.parametrize("extra", [-1, 0, 1, 9999])
def test_a_header_is_read_up_to_the_same_limit(extra):
    steps = headers.MAX_STEPS + extra
    fill = b"\xff" * (steps + 4)
    same_of_jpeg(JPEGS[1][:2] + fill + JPEGS[1][2:])
    png = PNG[:33] + steps * png_chunk(b"tEXt", b"") + PNGS[1][33:]
    assert traced(header_ops.png_exif)(png).numpy() == headers.png_exif(png)
    assert (headers.png_exif(png) == EXIF) == (extra < 0)
    head = GIFS[0].find(b"!\xff") if b"!\xff" in GIFS[0] else GIFS[0].find(b",")
    comment = b"!\xfe" + (steps - 2) * b"\1x" + b"\0"
    gif = GIFS[0][:head] + comment + GIFS[0][head:]
    assert traced(header_ops.is_opaque_gif)(gif).numpy() == headers.is_opaque_gif(gif)
    assert headers.is_opaque_gif(gif) == (extra <= 0)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PNGS), CUTS, FLIPS)
def test_a_png_has_one_exif_block(data, cut, flips):
    data = damage(data, cut, flips)
    assert traced(header_ops.png_exif)(data).numpy() == headers.png_exif(data)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(GIFS), CUTS, FLIPS)
@example(b"GIF87a\1\0\1\0\x80\0\0" + 6 * b"c" + b",\0\0\0\0\1\0\1\0", None, [])
def test_a_gif_is_opaque_or_not(data, cut, flips):
    data = damage(data, cut, flips)
    result = traced(header_ops.is_opaque_gif)(data).numpy()
    assert result == (
        headers.is_opaque_gif(data) and data[:6] in (b"GIF87a", b"GIF89a")
    )


@st.composite
def exif_blocks(draw):
    order = draw(st.sampled_from("<>"))
    mark = draw(st.sampled_from([b"II*\0", b"MM\0*", b"II+\0", b""]))
    directory = draw(st.sampled_from([0, 8, 9, 30, 70_000, 2**32 - 1]))
    entries = draw(st.sampled_from([0, 1, 2, 3, 200]))
    block = mark + struct.pack(order + "I", directory) + b"\0" * (directory % 8)
    block += struct.pack(order + "H", entries)
    for _ in range(draw(st.integers(0, 4))):
        tag = draw(st.sampled_from([0x010F, headers.ORIENTATION_TAG]))
        numbers = (tag, draw(st.integers(1, 5)), draw(st.integers(0, 2)))
        block += struct.pack(order + "HHI", *numbers)
        value = draw(st.sampled_from(["HH", "I"]))
        rest = (draw(st.integers(0, 9)), 0)[: len(value)]
        block += struct.pack(order + value, *rest)
    return block + draw(st.binary(max_size=9))


@settings(max_examples=400, deadline=None)
@given(exif_blocks() | st.binary(max_size=60))
def test_a_block_has_one_orientation(block):
    result = traced(header_ops.exif_orientation)(block).numpy()
    assert result == headers.exif_orientation(block)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["RGB", "RGBA", "P", "1", "L"]), CUTS, FLIPS)
def test_a_bmp_is_true_color_or_not(mode, cut, flips):
    data = damage(encode_image(NOISE, "BMP", mode), cut, flips)
    try:
        result = traced(header_ops.is_true_color_bmp)(data).numpy()
    except tf.errors.InvalidArgumentError:  # of a file that ends in its header
        result = False
    assert result == headers.is_true_color_bmp(data)
