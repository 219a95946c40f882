import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mmkeras.config import ImageConfig
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.decoding import decode_image
from mmkeras.modalities.image.reading import decode_upright, prepare_image
from tests.modalities.encoded_media import encode_image, encode_png, exif, png_chunk

CONFIG = ImageConfig()
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (13, 17, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (13, 17), np.uint8)
RGBA = np.dstack([NOISE, ALPHA])
Y, X = np.mgrid[0:32, 0:40]
SMOOTH = np.stack([Y * 8, X * 6, (X + Y) * 3], -1).astype(np.uint8)
GRAY16 = RNG.integers(0, 65_536, (13, 17)).astype(np.uint16)


def blend_over_white(rgba):
    alpha = rgba[..., 3:] / 255.0
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def decode_in_graph(data):
    """The pixels of TensorFlow's decoders, over white."""
    if data[:4] == b"\x89PNG":
        return blend_over_white(tf.io.decode_png(data, channels=4).numpy())
    if data[:2] == b"\xff\xd8":
        return tf.io.decode_jpeg(data, channels=3).numpy()
    return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()


def decode_by_pillow(data):
    return blend_over_white(np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")))


def adam7(pixels):
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)]
    for x, y, dx, dy in [*steps, (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        yield from (row.tobytes() for row in pixels[y::dy, x::dx] if row.size)


def bmp(bits, rows, masks=b"", height=13):
    offset, body = 54 + len(masks), b"".join(rows)
    head = struct.pack("<2sIII", b"BM", offset + len(body), 0, offset)
    compression, sizes = 3 if masks else 0, (len(body), 0, 0, 0, 0)
    numbers = (40 + len(masks), 17, height, 1, bits, compression, *sizes)
    return head + struct.pack("<IiiHHIIiiII", *numbers) + masks + body


def quantized(colors):
    return Image.fromarray(NOISE).quantize(colors)


FRAMES = {"save_all": True, "append_images": [quantized(9)]}
FIRST_PIXEL = tuple(map(int, NOISE[0, 0]))
BGRA_ROWS = [row.tobytes() for row in np.dstack([NOISE[..., ::-1], ALPHA])]
BGR_ROWS = [row[:, ::-1].tobytes() + b"\0" for row in NOISE]
UNCHANGED = {
    "jpeg": encode_image(SMOOTH, "JPEG"),
    "jpeg progressive": encode_image(SMOOTH, "JPEG", progressive=True),
    "jpeg gray": encode_image(SMOOTH, "JPEG", "L"),
    "jpeg cmyk": encode_image(SMOOTH, "JPEG", "CMYK", quality=95),
    "jpeg exif in front": encode_image(SMOOTH, "JPEG", exif=exif(6)),
    "png rgb": encode_image(NOISE),
    "png rgba": encode_image(RGBA),
    "png gray": encode_image(ALPHA),
    "png gray alpha": encode_image(RGBA, mode="LA"),
    "png palette": encode_image(quantized(200)),
    "png palette transparent": encode_image(quantized(200), transparency=3),
    "png rgb transparent": encode_image(NOISE, transparency=FIRST_PIXEL),
    "png interlaced": encode_png(17, 13, 8, 2, adam7(NOISE), interlaced=1),
    "png upright": encode_image(NOISE, exif=exif(1)),
    "bmp 24": bmp(24, BGR_ROWS[::-1]),
    "bmp 24 top first": bmp(24, BGR_ROWS, height=-13),
    "bmp 32": bmp(32, BGRA_ROWS),
    "png turned": encode_image(NOISE, exif=exif(6)),
    "gif": encode_image(quantized(64), "GIF"),
    "gif animated": encode_image(quantized(64), "GIF", **FRAMES),
}
LEVELS = [bytes(RNG.integers(0, 256, 3, np.uint8)) for _ in range(13)]
PALETTE = png_chunk(b"PLTE", bytes(RNG.integers(0, 256, 48, np.uint8)))
TRANSPARENT = png_chunk(b"tRNS", struct.pack(">H", 2))
SHALLOW = {
    "1 bit": encode_image(NOISE, "PNG", "1"),
    "gray 2 bits": encode_png(12, 13, 2, 0, LEVELS),
    "gray 2 bits transparent": encode_png(12, 13, 2, 0, LEVELS, TRANSPARENT),
    "gray 4 bits": encode_png(6, 13, 4, 0, LEVELS),
    "palette 4 bits": encode_png(6, 13, 4, 3, LEVELS, PALETTE),
}
MASKS = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"\0" * 52
TRANSCODED = {
    "webp": encode_image(NOISE, "WEBP", lossless=True),
    "webp alpha": encode_image(RGBA, "WEBP", lossless=True, exact=True),
    "tiff": encode_image(NOISE, "TIFF"),
    "tiff lzw": encode_image(NOISE, "TIFF", compression="tiff_lzw"),
    "tiff gray alpha": encode_image(NOISE, "TIFF", "LA"),
    "tiff cmyk": encode_image(NOISE, "TIFF", "CMYK"),
    "tiff 1 bit": encode_image(NOISE, "TIFF", "1"),
    "bmp palette": encode_image(quantized(64), "BMP"),
    "bmp 1 bit": encode_image(NOISE, "BMP", "1"),
    "bmp masks": bmp(32, BGRA_ROWS, MASKS),
    "gif transparent": encode_image(quantized(64), "GIF", transparency=2),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_an_image_that_tensorflow_decodes_correctly_is_unchanged(name):
    data = UNCHANGED[name]
    assert prepare_image(data, CONFIG) is data
    # Chroma and rounding differ a little between two JPEG decoders.
    tolerance = 4 if name.startswith("jpeg") else 0
    pixels = decode_in_graph(data)
    np.testing.assert_allclose(pixels, decode_by_pillow(data), atol=tolerance)


@pytest.mark.parametrize("name", TRANSCODED)
def test_any_other_image_becomes_png_with_the_same_pixels(name):
    data = TRANSCODED[name]
    result = prepare_image(data, CONFIG)
    assert result.startswith(b"\x89PNG") and result != data
    np.testing.assert_array_equal(decode_in_graph(result), decode_by_pillow(data))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("TIFF", {}), ("TIFF", {"tiffinfo": {262: 0}})],
    ids=["png", "tiff", "tiff inverted"],
)
def test_sixteen_bits_are_scaled_and_not_clipped(kind, options):
    result = prepare_image(encode_image(GRAY16, kind, **options), CONFIG)
    expected = (GRAY16 >> 8).astype(float)
    expected = 255 - expected if options else expected
    np.testing.assert_array_equal(decode_in_graph(result)[..., 0], expected)


@pytest.mark.parametrize("name", SHALLOW)
def test_a_shallow_png_is_unchanged_and_has_the_pixels_of_a_deep_one(name):
    data = SHALLOW[name]
    assert prepare_image(data, CONFIG) is data
    deep = encode_image(decode_upright(data), "PNG", "RGBA")
    pixels = decode_image(data, CONFIG).numpy()
    np.testing.assert_array_equal(pixels, decode_image(deep, CONFIG))
    if "2 bits" in name:  # levels 0, 85, 170 and 255
        levels = np.unpackbits(np.frombuffer(b"".join(LEVELS), np.uint8))
        levels = 85 * (2 * levels[::2] + levels[1::2]).reshape(13, 12)
        levels[levels == 170] = 255 if "transparent" in name else 170
        expected = decode_image(encode_image(levels.astype(np.uint8)), CONFIG)
        np.testing.assert_array_equal(pixels, expected)


def test_a_gif_is_transparent_outside_a_small_first_frame():
    gif = UNCHANGED["gif"]
    larger = gif[:6] + struct.pack("<HH", 23, 18) + gif[10:]
    pixels = decode_in_graph(prepare_image(larger, CONFIG))
    assert pixels.shape == (18, 23, 3)
    np.testing.assert_array_equal(pixels[:13, :17], decode_by_pillow(gif))
    assert (pixels[13:] == 255).all() and (pixels[:, 17:] == 255).all()


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_the_orientation_is_applied(kind, orientation):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode_image(NOISE, kind, exif=exif(orientation), **options)
    upright = {
        2: NOISE[:, ::-1],
        3: NOISE[::-1, ::-1],
        4: NOISE[::-1],
        5: NOISE.transpose(1, 0, 2),
        6: np.rot90(NOISE, 3),
        7: NOISE[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(NOISE),
    }[orientation]
    np.testing.assert_array_equal(decode_upright(data), upright)
    if kind != "PNG":  # is turned in the graph
        prepared = prepare_image(data, CONFIG)
        np.testing.assert_array_equal(decode_in_graph(prepared), upright)


def test_a_jpeg_for_display_is_upright():
    assert decode_upright(UNCHANGED["jpeg exif in front"]).size == (32, 40)


def test_the_limit_of_pillow_itself_does_not_apply():
    data = encode_png(10_000, 10_000, 8, 2, [])
    assert prepare_image(data, ImageConfig(max_megapixels=178)) is data


FLOATS = encode_image(ALPHA.astype(np.float32), "TIFF")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "file is empty"),
        (b"hello", "unsupported format .supported: JPEG, PNG, GIF, BMP, TIFF, WebP"),
        (b"\0\0\0\x1cftypheic" + b"\0" * 50, "HEIC"),
        (b"<svg></svg>", "unsupported SVG"),
        (TRANSCODED["webp"][:60], "truncated or unreadable WebP"),
        (TRANSCODED["tiff"][:300], "truncated or unreadable TIFF"),
        (UNCHANGED["jpeg exif in front"][:90], "JPEG: its header is incomplete"),
        (FLOATS, "unsupported TIFF of signed, fl"),
        (encode_png(20_000, 10_000, 8, 2, []), "200 megapixels.*max_megapixels=50"),
    ],
)
def test_the_reason_names_why_an_image_is_unreadable(data, reason):
    with pytest.raises(Unreadable, match=reason):
        prepare_image(data, CONFIG)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"exif": exif(6)}])
def test_a_jpeg_that_is_cut_in_its_header_prints_nothing(options, capfd):
    data = encode_image(NOISE, "JPEG", **options)
    frame = data.find(b"\xff\xc2" if "progressive" in options else b"\xff\xc0")
    pixels = data.find(b"\xff\xda") + 14
    assert 0 < frame < pixels and prepare_image(data[: pixels + 1], CONFIG)
    for size in (3, 20, frame, frame + 9, frame + 10, frame + 60, pixels - 9, pixels):
        with pytest.raises(Unreadable, match="header is incomplete"):
            prepare_image(data[:size], CONFIG)
    for size in (3, 20, frame, frame + 9):
        with pytest.raises(tf.errors.InvalidArgumentError, match="no frame header"):
            decode_image(tf.constant(data[:size]), CONFIG)
    printed = capfd.readouterr().err
    assert "JPEG library" not in printed and "read error" not in printed
