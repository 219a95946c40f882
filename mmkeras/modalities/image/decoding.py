"""Image decoding in the graph, shared by training and serving."""

from collections.abc import Sequence
from functools import partial

import tensorflow as tf

from mmkeras.config import ImageConfig
from mmkeras.modalities.byte_ops import bytes_at, numbers_at, require
from mmkeras.modalities.image import header_ops
from mmkeras.modalities.image.headers import jpeg_header

# Image formats that the graph decodes; a special JPEG has an Exif block or is CMYK.
JPEG, SPECIAL_JPEG, PNG, GIF, BMP = "jpeg", "special_jpeg", "png", "gif", "bmp"
KINDS = (JPEG, SPECIAL_JPEG, PNG, GIF, BMP)
_MAGICS = {JPEG: b"\xff\xd8\xff", PNG: b"\x89PNG\r\n\x1a\n", GIF: b"GIF8", BMP: b"BM"}

# TensorFlow decodes CMYK without this segment with the opposite sign: 0 is no ink, and
# not full ink as libjpeg-turbo's djpeg (put_cmyk in wrppm.c), Chromium (Skia's
# kInvertedCMYK_Color), Firefox (bug 674619) and Pillow ("CMYK;I") have it.
_ADOBE = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"


def image_kind(data: bytes) -> str:
    """Returns the format of an encoded image, one of `KINDS`, or "" for others."""
    if data.startswith(_MAGICS[JPEG]):
        exif, (_, _, components) = jpeg_header(data)
        return SPECIAL_JPEG if exif is not None or components == 4 else JPEG
    return next((kind for kind, magic in _MAGICS.items() if data.startswith(magic)), "")


def decode_image(
    data: tf.Tensor, config: ImageConfig, kinds: Sequence[str] = KINDS
) -> tf.Tensor:
    """Decodes one image and resizes it to a square.

    Args:
        data: () string: JPEG, PNG, GIF (its first frame) or BMP of 24 or 32 bits.
        kinds: Formats that can occur. Fewer give a smaller graph with the same
            result; serving has all of them.

    Returns:
        (size_px, size_px, 3) uint8 RGB. Alpha is blended over white; the Exif
        orientation of a JPEG or PNG is applied. The aspect ratio is not preserved.

    Raises:
        tf.errors.InvalidArgumentError: Of another format, truncated, too large, a GIF
            that `is_opaque_gif` excludes, or another BMP.
    """
    if list(kinds) == [JPEG]:
        pixels = _decode_jpeg(data, config)
    else:
        # Each op of an untaken branch costs time too, so the most frequent format comes
        # first, and the others are in a function of their own.
        others = tf.function(
            lambda data: _decode_other(data, config, kinds),
            [tf.TensorSpec([], tf.string)],
            autograph=False,
            experimental_attributes={"_noinline": True},
        )
        pixels = tf.cond(
            _is_plain_jpeg(data),
            lambda: _decode_jpeg(data, config),
            lambda: others(data),
        )
    return tf.ensure_shape(pixels, [config.size_px, config.size_px, 3])


def _is_jpeg(data):
    return bytes_at(data, 0, 3) == _MAGICS[JPEG]


def _is_plain_jpeg(data):
    def is_plain():
        offset, _, is_frame = header_ops.find_exif_or_frame(data)
        return is_frame & (bytes_at(data, offset + 9, 1) != b"\4")

    return tf.cond(_is_jpeg(data), is_plain, lambda: tf.constant(False))


def _decode_jpeg(data, config):
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(data))
    with _size_checked(height, width, config):
        return _resize(tf.io.decode_jpeg(data, channels=3), config)


def _decode_other(data, config, kinds):
    branches = {
        SPECIAL_JPEG: _decode_special_jpeg,
        PNG: _decode_png,
        GIF: _decode_gif,
        BMP: _decode_bmp,
    }
    magics = _MAGICS | {SPECIAL_JPEG: _MAGICS[JPEG]}
    cases = [
        (
            bytes_at(data, 0, len(magics[kind])) == magics[kind],
            partial(decode, data, config),
        )
        for kind, decode in branches.items()
        if kind in kinds
    ]
    refuse = partial(_refuse, config)
    return tf.case(cases, default=refuse) if cases else refuse()


def _decode_special_jpeg(data, config):
    orientation = header_ops.exif_orientation(header_ops.jpeg_exif(data))
    *_, is_frame = header_ops.find_exif_or_frame(data, skip_exif=True)
    with require(is_frame, "a truncated or damaged JPEG: no frame header"):
        is_cmyk = tf.image.extract_jpeg_shape(data)[2] == 4
    # A marker of the file itself comes later and prevails.
    marked = tf.strings.join([bytes_at(data, 0, 2), _ADOBE, bytes_at(data, 2, -1)])
    data = tf.where(is_cmyk, marked, data)
    return orient(_decode_jpeg(data, config), orientation)


def _decode_png(data, config):
    width, height = numbers_at(data, 16, 2, tf.int32, little_endian=False)
    with _size_checked(height, width, config):
        rgba = tf.io.decode_png(data, channels=4)  # (H, W, 4)
    # Without alpha TF fills in the largest value of the file's depth, not 255.
    (depth,) = numbers_at(data, 24, 1, tf.uint8)
    filler = tf.bitwise.left_shift(tf.constant(1, tf.int64), tf.minimum(depth, 8)) - 1
    opaque = tf.reduce_all(rgba[..., 3] == tf.cast(filler, tf.uint8))
    rgb = tf.cond(opaque, lambda: rgba[..., :3], lambda: _over_white(rgba))
    orientation = header_ops.exif_orientation(header_ops.png_exif(data))
    return orient(_resize(rgb, config), orientation)


def _decode_gif(data, config):
    width, height = numbers_at(data, 6, 2, tf.int16)
    # TensorFlow makes what is transparent black.
    is_opaque = require(
        header_ops.is_opaque_gif(data),
        "a GIF that is damaged, transparent, or does not fill its canvas",
    )
    with _size_checked(height, width, config), is_opaque:
        frame = tf.io.decode_image(data, channels=3, expand_animations=False)
    return _resize(tf.ensure_shape(frame, [None, None, 3]), config)


def _decode_bmp(data, config):
    width, height = numbers_at(data, 18, 2, tf.int32)
    height = tf.minimum(height, 2**32 - height)  # negative if the top row is first
    is_true_color = require(
        header_ops.is_true_color_bmp(data), "a BMP that is not plain 24 or 32 bits"
    )
    with _size_checked(height, width, config), is_true_color:
        pixels = tf.io.decode_bmp(data)
    return _resize(tf.ensure_shape(pixels[..., :3], [None, None, 3]), config)


def _refuse(config):
    with require(False, "not a JPEG, PNG, GIF or BMP"):
        return tf.zeros([config.size_px, config.size_px, 3], tf.uint8)


def _size_checked(height, width, config):
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    limit = config.max_megapixels * 1_000_000
    is_valid = (pixels > 0) & (pixels <= limit)
    return require(is_valid, f"more pixels than {limit}, or none")


def _over_white(rgba):
    alpha = tf.cast(rgba[..., 3:], tf.float32) / 255  # (H, W, 1)
    rgb = tf.cast(rgba[..., :3], tf.float32) * alpha + 255 * (1 - alpha)
    return tf.cast(tf.round(rgb), tf.uint8)


def _resize(pixels, config):
    """Resizes (H, W, 3) uint8 to the square; by area if both sides shrink by two.

    Bilinear alone would skip pixels then; area costs three times as much.
    """
    size = [config.size_px, config.size_px]
    shrinks = tf.reduce_min(tf.shape(pixels)[:2]) >= 2 * config.size_px
    square = tf.cond(
        shrinks,
        lambda: tf.image.resize(pixels, size, method="area"),
        lambda: tf.image.resize(pixels, size),
    )
    return tf.cast(square + 0.5, tf.uint8)  # both methods stay in [0, 255]


def orient(square: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a (S, S, 3) image upright by its Exif orientation, 1 to 8."""
    mirrored = (orientation == 2) | (orientation == 4) | (orientation == 5)
    mirrored |= orientation == 7
    turns = tf.gather([0, 0, 0, 2, 2, 1, 3, 3, 1], orientation)  # counter-clockwise

    def rotate():
        mirror = tf.cond(mirrored, lambda: square[:, ::-1], lambda: square)
        return tf.image.rot90(mirror, turns)

    return tf.cond(orientation > 1, rotate, lambda: square)
