import functools
import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from mmkeras.config import ImageConfig
from mmkeras.modalities.image.decoding import (
    KINDS,
    decode_image,
    exif_orientation,
    image_kind,
)

SIZE = 32  # pictures of this side are not resized, so pixels can be compared
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
Y, X = np.mgrid[:SIZE, :SIZE]
SMOOTH = np.stack([8 * Y, 8 * X, 4 * (X + Y)], -1).astype(np.uint8)


@functools.cache
def traced(function, *config):
    string = [tf.TensorSpec([], tf.string)]
    return tf.function(lambda d: function(d, *config), string, autograph=False)


@pytest.fixture(scope="module", autouse=True)
def traced_functions_end_before_tensorflow():
    yield
    traced.cache_clear()


def decoded(data, max_megapixels=1):
    config = ImageConfig(size_px=SIZE, max_megapixels=max_megapixels)
    return traced(decode_image, config)(data).numpy()


def encoded(image, kind, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(color=(255, 0, 0), mode="RGB"):
    return Image.new("RGB", (SIZE, SIZE), color).convert(mode)


def png_chunk(name, content):
    crc = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def png(width, height, depth, color_type, rows):
    head = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", head), (b"IDAT", content), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def top_down(bmp):
    """The same BMP with its rows in the other order, which its height says."""
    (start,) = struct.unpack_from("<I", bmp, 10)
    width, height = struct.unpack_from("<ii", bmp, 18)
    rows = np.frombuffer(bmp[start:], np.uint8).reshape(height, -1)[::-1].tobytes()
    head = bytearray(bmp[:start])
    struct.pack_into("<i", head, 22, -height)
    return bytes(head) + rows


GOOD = {
    "JPEG": encoded(SMOOTH, "JPEG", quality=95),
    "PNG": encoded(NOISE, "PNG"),
    "GIF": encoded(NOISE, "GIF"),
    "BMP": encoded(NOISE, "BMP"),
}


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_a_png_gives_the_pixels_that_pillow_gives(mode):
    image = Image.fromarray(NOISE).convert(mode)
    expected = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(decoded(encoded(image, "PNG")), expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_of_few_bits_is_not_taken_for_transparent(bits):
    image = plain((200, 30, 60)).convert("P", palette=Image.ADAPTIVE, colors=2)
    data = encoded(image, "PNG", bits=bits)
    np.testing.assert_array_equal(decoded(data)[5, 5], [200, 30, 60])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_over_white(mode):
    image = Image.fromarray(NOISE).convert(mode)
    alpha = RNG.integers(0, 256, (SIZE, SIZE), np.uint8)
    image.putalpha(Image.fromarray(alpha))
    white = Image.new("RGBA", image.size, "white")
    expected = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")

    difference = decoded(encoded(image, "PNG")).astype(int) - np.array(expected)

    assert np.abs(difference).max() <= 1


def test_what_is_wholly_transparent_is_white():
    clear = Image.new("RGBA", (SIZE, SIZE), (0, 90, 0, 0))
    assert (decoded(encoded(clear, "PNG")) == 255).all()


def test_a_transparent_palette_colour_is_white():
    image = plain().convert("P", palette=Image.ADAPTIVE)
    data = encoded(image, "PNG", transparency=image.getpixel((0, 0)))
    assert (decoded(data) == 255).all()


@pytest.mark.parametrize(("color_type", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_of_16_bits_the_upper_eight_are_kept(color_type, channels):
    deep = RNG.integers(0, 65_536, (SIZE, SIZE, channels)).astype(">u2")
    if channels == 4:
        deep[..., 3] = 65_535
    rows = [row.tobytes() for row in deep]

    pixels = decoded(png(SIZE, SIZE, 16, color_type, rows)).astype(int)

    assert np.abs(pixels - deep[..., :3] // 256).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_red_jpeg_is_red(mode):
    pixels = decoded(encoded(plain(mode=mode), "JPEG", quality=95)).astype(int)
    assert np.abs(pixels - [255, 0, 0]).max() <= 3


def test_a_gray_jpeg_is_gray():
    pixels = decoded(encoded(SMOOTH[..., 0], "JPEG", quality=100))
    assert (pixels == pixels[..., :1]).all()
    assert np.abs(pixels[..., 0].astype(int) - SMOOTH[..., 0]).max() <= 3


def test_of_a_gif_the_first_frame_is_seen():
    later = [plain((0, 0, 255)), plain((0, 255, 0))]
    data = encoded(plain(), "GIF", save_all=True, append_images=later)
    assert (decoded(data) == [255, 0, 0]).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("order", [bytes, top_down])
def test_a_bmp_is_upright_in_either_order_of_its_rows(mode, order):
    data = encoded(Image.fromarray(NOISE).convert(mode), "BMP")
    np.testing.assert_array_equal(decoded(order(data)), NOISE)


def test_a_bmp_with_a_palette_is_refused_and_not_shown_in_wrong_colours():
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoded(encoded(plain(mode="P"), "BMP"))


def exif(orientation, little_endian=True):
    order, mark = ("<", b"II*\0") if little_endian else (">", b"MM\0*")
    entries = [(0x010F, 2, 1, 0), (0x0112, 3, 1, orientation)]
    pack = {3: order + "HHIHxx", 2: order + "HHII"}
    block = b"Exif\0\0" + mark + struct.pack(order + "IH", 8, len(entries))
    block += b"".join(struct.pack(pack[e[1]], *e) for e in entries) + b"\0\0\0\0"
    return b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block


def with_exif(jpeg, block, offset):
    """Puts the block in front of the JFIF block (6) or behind it (24)."""
    assert jpeg[2:4] == b"\xff\xe0" and jpeg[6:10] == b"JFIF"
    jfif, rest = jpeg[2:20], jpeg[20:]
    parts = [block, jfif] if offset == 6 else [jfif, block]
    return jpeg[:2] + b"".join(parts) + rest


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("offset", [6, 24])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_seen_as_pillow_turns_it(orientation, offset, little_endian):
    upright = encoded(SMOOTH, "JPEG", quality=95, subsampling=0)
    data = with_exif(upright, exif(orientation, little_endian), offset)
    image = Image.open(io.BytesIO(data))
    assert image.getexif()[0x0112] == orientation

    expected = np.array(ImageOps.exif_transpose(image)).astype(int)

    # TF decodes by a faster, rougher cosine transform than Pillow.
    assert np.abs(decoded(data) - expected).max() <= 8


@pytest.mark.parametrize("offset", [6, 24])
def test_a_damaged_exif_block_leaves_the_picture_as_it_is(offset):
    block = exif(6)
    damaged = block[:10] + b"\xff" * (len(block) - 10)
    np.testing.assert_array_equal(
        decoded(with_exif(GOOD["JPEG"], damaged, offset)), decoded(GOOD["JPEG"])
    )


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"II*\0", b"MM\0*"]))
def test_any_exif_block_gives_one_of_the_eight_orientations(noise, mark):
    start = b"\xff\xd8\xff\xe1\0\0Exif\0\0"
    found = traced(exif_orientation)(start + mark + noise).numpy()
    assert 1 <= found <= 8


def test_a_fine_checkerboard_becomes_gray():
    # Squares of two pixels, placed so that plain bilinear would see one colour only.
    board = ((np.indices((4 * SIZE, 4 * SIZE)) + 1) // 2).sum(axis=0) % 2 * 255
    board = np.repeat(board[..., None], 3, axis=-1).astype(np.uint8)
    assert set(np.unique(decoded(encoded(board, "PNG")))) <= {127, 128}


def test_sides_are_stretched_to_the_square():
    wide = np.zeros((20, 80, 3), np.uint8)
    wide[:, :40, 0] = wide[:, 40:, 2] = 255

    pixels = decoded(encoded(wide, "PNG"))

    assert (pixels[:, :14] == [255, 0, 0]).all()
    assert (pixels[:, 18:] == [0, 0, 255]).all()


def claiming(kind, width, height):
    """A good picture whose header says another size."""
    data = bytearray(GOOD[kind])
    if kind == "PNG":
        struct.pack_into(">II", data, 16, width, height)
        struct.pack_into(">I", data, 29, zlib.crc32(bytes(data[12:29])))
    elif kind == "JPEG":
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    elif kind == "GIF":
        struct.pack_into("<HH", data, 6, width, height)
    else:
        struct.pack_into("<ii", data, 18, width, height)
    return bytes(data)


@pytest.mark.parametrize("kind", GOOD)
def test_a_bomb_is_refused_by_its_header(kind):
    with pytest.raises(tf.errors.InvalidArgumentError, match="more pixels than"):
        decoded(claiming(kind, 60_000, 60_000))


@pytest.mark.parametrize("height", [-60_000, -(2**31)])
def test_a_top_down_bomb_is_refused_by_its_header(height):
    with pytest.raises(tf.errors.InvalidArgumentError, match="more pixels than"):
        decoded(claiming("BMP", 60_000, height))


def test_the_limit_is_in_millions_of_pixels():
    just, over = (encoded(Image.new("1", (1000, rows)), "PNG") for rows in (1000, 1001))
    assert decoded(just).shape == (SIZE, SIZE, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="more pixels than"):
        decoded(over)
    assert decoded(over, max_megapixels=2).shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", GOOD)
def test_a_truncated_picture_is_refused(kind, share):
    data = GOOD[kind]
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoded(data[: int(share * len(data))])


@pytest.mark.parametrize("data", [b"", b"x", b"RIFF0000WEBPVP8 ", b"<svg/>"])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(tf.errors.InvalidArgumentError, match="not a JPEG, PNG"):
        decoded(data)


def of_kind(kind):
    if kind == "turned_jpeg":
        return with_exif(GOOD["JPEG"], exif(6), 6)
    return GOOD[kind.upper()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_for_fewer_kinds_gives_the_same_pixels(kind):
    data, config = of_kind(kind), ImageConfig(size_px=SIZE, max_megapixels=1)
    assert image_kind(data) == kind
    alone = traced(decode_image, config, (kind,))
    np.testing.assert_array_equal(alone(data), decoded(data))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_kind_that_was_not_announced_is_refused_not_misread(kind):
    config = ImageConfig(size_px=SIZE, max_megapixels=1)
    alone = traced(decode_image, config, (kind,))
    for other in set(KINDS) - {kind, "jpeg", "turned_jpeg"}:
        with pytest.raises(tf.errors.InvalidArgumentError):
            alone(of_kind(other))


def test_what_is_no_picture_has_no_kind():
    assert image_kind(b"RIFF0000WEBPVP8 ") == image_kind(b"") == ""


def pixels_or_refused(data):
    try:
        assert decoded(data).shape == (SIZE, SIZE, 3)
    except tf.errors.InvalidArgumentError:
        pass


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG", b"GIF89a", b"BM"]), st.binary()
)
def test_random_bytes_are_refused_or_a_picture(magic, noise):
    pixels_or_refused(magic + noise)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_a_changed_picture_is_refused_or_a_picture(kind, draw):
    data = bytearray(GOOD[kind])
    places = st.integers(0, 80) | st.integers(0, len(data) - 1)
    for place in draw.draw(st.lists(places, min_size=1, max_size=6)):
        data[place] = draw.draw(st.integers(0, 255))
    pixels_or_refused(bytes(data))
