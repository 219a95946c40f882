import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from mmkeras.config import ImageConfig
from mmkeras.modalities.image.decoding import (
    KINDS,
    decode_image,
    image_kind,
)
from tests.modalities.encoded_media import encode_image, encode_png, traced

SIZE = 32  # images of this side are not resized, so pixels can be compared
CONFIG = ImageConfig(size_px=SIZE, max_megapixels=1)
RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (SIZE, SIZE, 3), np.uint8))
ALPHA = Image.fromarray(RNG.integers(0, 256, (SIZE, SIZE), np.uint8))
Y, X = np.mgrid[:SIZE, :SIZE]
SMOOTH = np.stack([8 * Y, 8 * X, 4 * (X + Y)], -1).astype(np.uint8)
REFUSED = tf.errors.InvalidArgumentError


def decode(data, config=CONFIG):
    return traced(decode_image, config)(data).numpy()


def plain(color=(255, 0, 0), mode="RGB", **options):
    return Image.new("RGB", (SIZE, SIZE), color).convert(mode, **options)


def with_alpha(mode):
    image = NOISE.convert(mode)
    image.putalpha(ALPHA)
    return image


def over_white(image):
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def deep_png(color_type, channels):
    """PNG of 16 bits, and its upper eight."""
    deep = RNG.integers(0, 65_536, (SIZE, SIZE, channels)).astype(">u2")
    deep[..., 3:] = 65_535
    data = encode_png(SIZE, SIZE, 16, color_type, [row.tobytes() for row in deep])
    return data, np.broadcast_to(deep[..., :3] // 256, (SIZE, SIZE, 3))


def top_down(bmp):
    """The same BMP with its rows in the other order, as its height announces."""
    (start,) = struct.unpack_from("<I", bmp, 10)
    width, height = struct.unpack_from("<ii", bmp, 18)
    rows = np.frombuffer(bmp[start:], np.uint8).reshape(height, -1)[::-1].tobytes()
    return bmp[:22] + struct.pack("<i", -height) + bmp[26:start] + rows


TWO_COLORS = plain((200, 30, 60), "P", palette=Image.ADAPTIVE, colors=2)
RED = plain(mode="P", palette=Image.ADAPTIVE)
CLEAR = Image.new("RGBA", (SIZE, SIZE), (0, 90, 0, 0))
FRAMES = {"save_all": True, "append_images": [plain((0, 0, 255)), plain((0, 255, 0))]}
GRAY = Image.fromarray(SMOOTH[..., 0])
PIXELS = {  # name: (file, expected pixels, largest difference)
    **{
        f"png {mode}": (encode_image(NOISE, "PNG", mode), NOISE.convert(mode), 0)
        for mode in ("RGB", "L", "P", "1")
    },
    **{
        f"png of {bits} bits": (encode_image(TWO_COLORS, bits=bits), TWO_COLORS, 0)
        for bits in (1, 2, 4, 8)
    },
    **{
        f"png {mode}": (encode_image(with_alpha(mode)), over_white(with_alpha(mode)), 1)
        for mode in ("RGBA", "LA")
    },
    "png transparent": (encode_image(CLEAR), plain("white"), 0),
    "png palette transparent": (
        encode_image(RED, transparency=RED.getpixel((0, 0))),
        plain("white"),
        0,
    ),
    "png gray 16": (*deep_png(0, 1), 1),
    "png RGB 16": (*deep_png(2, 3), 1),
    "png RGBA 16": (*deep_png(6, 4), 1),
    "jpeg": (encode_image(plain(), "JPEG", quality=95), plain(), 3),
    "jpeg CMYK": (encode_image(plain(), "JPEG", "CMYK", quality=95), plain(), 3),
    "jpeg gray": (encode_image(GRAY, "JPEG", quality=100), GRAY, 3),
    "gif": (encode_image(plain(), "GIF", **FRAMES), plain(), 0),
    "bmp RGB": (encode_image(NOISE, "BMP"), NOISE, 0),
    "bmp RGBA": (encode_image(NOISE, "BMP", "RGBA"), NOISE, 0),
    "bmp RGB top down": (top_down(encode_image(NOISE, "BMP")), NOISE, 0),
    "bmp RGBA top down": (top_down(encode_image(NOISE, "BMP", "RGBA")), NOISE, 0),
}


@pytest.mark.parametrize("name", PIXELS)
def test_pixels_are_those_of_pillow_over_white(name):
    data, expected, tolerance = PIXELS[name]
    if isinstance(expected, Image.Image):
        expected = np.array(expected.convert("RGB"))
    difference = decode(data).astype(int) - expected
    assert np.abs(difference).max() <= tolerance


def exif(orientation, little_endian=True):
    order, mark = ("<", b"II*\0") if little_endian else (">", b"MM\0*")
    block = b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 2)
    block += struct.pack(order + "HHII", 0x010F, 2, 1, 0)
    block += struct.pack(order + "HHIHxxI", 0x0112, 3, 1, orientation, 0)
    return b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block


def with_exif(jpeg, block, offset):
    """Puts the block before the JFIF block (6) or after it (24)."""
    assert jpeg[2:4] == b"\xff\xe0" and jpeg[6:10] == b"JFIF"
    start = 2 if offset == 6 else 20
    return jpeg[:start] + block + jpeg[start:]


GOOD = {
    "JPEG": encode_image(SMOOTH, "JPEG", quality=95),
    "PNG": encode_image(NOISE),
    "GIF": encode_image(NOISE, "GIF"),
    "BMP": encode_image(NOISE, "BMP"),
}
TURNED = with_exif(GOOD["JPEG"], exif(6), 6)


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("offset", [6, 24])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_as_by_pillow(orientation, offset, little_endian):
    upright = encode_image(SMOOTH, "JPEG", quality=95, subsampling=0)
    data = with_exif(upright, exif(orientation, little_endian), offset)
    image = Image.open(io.BytesIO(data))
    assert image.getexif()[0x0112] == orientation

    expected = np.array(ImageOps.exif_transpose(image)).astype(int)

    # TF decodes by a faster, rougher cosine transform than Pillow.
    assert np.abs(decode(data) - expected).max() <= 8


@pytest.mark.parametrize("offset", [6, 24])
def test_a_damaged_exif_block_changes_nothing(offset):
    damaged = exif(6)[:10] + b"\xff" * (len(exif(6)) - 10)
    pixels = decode(with_exif(GOOD["JPEG"], damaged, offset))
    np.testing.assert_array_equal(pixels, decode(GOOD["JPEG"]))


def test_the_orientation_of_a_png_is_applied():
    image = NOISE.copy()
    image.getexif()[0x0112] = 6
    data = encode_image(image, exif=image.getexif().tobytes())
    assert b"eXIf" in data
    np.testing.assert_array_equal(decode(data), np.rot90(NOISE, 3))


def without_adobe(jpeg):
    start = jpeg.find(b"Adobe") - 4
    return jpeg[:start] + jpeg[start + 16 :]


@pytest.mark.parametrize("orientation", [1, 6])
def test_cmyk_without_adobe_marker_is_as_with_one(orientation):
    data = encode_image(plain(), "JPEG", "CMYK", quality=95)
    expected = decode(data)
    assert np.abs(expected[0, 0].astype(int) - [255, 0, 0]).max() < 5
    bare = without_adobe(data)
    assert b"Adobe" not in bare and image_kind(bare) == "special_jpeg"
    bare = bare[:2] + exif(orientation) + bare[2:]
    np.testing.assert_array_equal(decode(bare), expected)  # of one color


def test_a_fine_checkerboard_becomes_gray():
    # Squares of two pixels, placed so that plain bilinear would see one color only.
    board = ((np.indices((4 * SIZE, 4 * SIZE)) + 1) // 2).sum(axis=0) % 2 * 255
    board = np.repeat(board[..., None], 3, axis=-1).astype(np.uint8)
    assert set(np.unique(decode(encode_image(board)))) <= {127, 128}


def test_sides_are_stretched_to_the_square():
    wide = np.zeros((20, 80, 3), np.uint8)
    wide[:, :40, 0] = wide[:, 40:, 2] = 255
    pixels = decode(encode_image(wide))
    assert (pixels[:, :14] == [255, 0, 0]).all()
    assert (pixels[:, 18:] == [0, 0, 255]).all()


START_OF_FRAME = GOOD["JPEG"].index(b"\xff\xc0")


@pytest.mark.parametrize(
    ("kind", "offset", "size"),
    [
        ("JPEG", START_OF_FRAME + 5, struct.pack(">HH", 60_000, 60_000)),
        ("PNG", 16, struct.pack(">II", 60_000, 60_000)),
        ("GIF", 6, struct.pack("<HH", 60_000, 60_000)),
        ("BMP", 18, struct.pack("<ii", 60_000, 60_000)),
        ("BMP", 18, struct.pack("<ii", 60_000, -60_000)),
        ("BMP", 18, struct.pack("<ii", 60_000, -(2**31))),
    ],
)
def test_a_bomb_is_refused_by_the_size_in_its_header(kind, offset, size):
    data = GOOD[kind]
    reason = "more pixels than|does not fill its canvas"
    with pytest.raises(REFUSED, match=reason):
        decode(data[:offset] + size + data[offset + len(size) :])


def test_the_limit_is_in_millions_of_pixels():
    at, over = (encode_image(Image.new("1", (1000, rows))) for rows in (1000, 1001))
    assert decode(at).shape == (SIZE, SIZE, 3)
    with pytest.raises(REFUSED, match="more pixels than"):
        decode(over)
    larger = ImageConfig(size_px=SIZE, max_megapixels=2)
    assert decode(over, larger).shape == (SIZE, SIZE, 3)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", GOOD)
def test_a_truncated_image_is_refused(kind, share):
    with pytest.raises(REFUSED):
        decode(GOOD[kind][: int(share * len(GOOD[kind]))])


@pytest.mark.parametrize(
    ("data", "reason"),
    [(data, "not a JPEG, PNG") for data in (b"", b"x", b"RIFF0000WEBPVP8 ", b"<svg/>")]
    + [(encode_image(plain(mode="P"), "BMP"), None)],  # wrong colors otherwise
)
def test_other_formats_are_refused(data, reason):
    with pytest.raises(REFUSED, match=reason):
        decode(data)
    assert image_kind(data) == ("" if reason else "bmp")


FILES = {"special_jpeg": TURNED} | {kind.lower(): data for kind, data in GOOD.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_for_fewer_kinds_gives_the_same_pixels(kind):
    data = FILES[kind]
    assert image_kind(data) == kind
    pixels = traced(decode_image, CONFIG, (kind,))(data)
    np.testing.assert_array_equal(pixels, decode(data))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_kind_outside_of_kinds_is_refused(kind):
    graph = traced(decode_image, CONFIG, (kind,))
    for other in set(KINDS) - {kind, "jpeg", "special_jpeg"}:
        with pytest.raises(REFUSED):
            graph(FILES[other])
