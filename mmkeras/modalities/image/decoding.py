"""Image decoding in the graph, shared by training and serving."""

from collections.abc import Sequence
from functools import partial

import tensorflow as tf

from mmkeras.config import ImageConfig
from mmkeras.modalities.byte_ops import bytes_at, numbers_at, require
from mmkeras.modalities.image.reading import EXIF, EXIF_OFFSETS, ORIENTATION_TAG

# Image formats that the graph decodes; a "turned" JPEG has an Exif block.
JPEG, TURNED_JPEG, PNG, GIF, BMP = "jpeg", "turned_jpeg", "png", "gif", "bmp"
KINDS = (JPEG, TURNED_JPEG, PNG, GIF, BMP)

_IFD_ENTRIES = 64  # limit of the block's entries that are searched


def image_kind(data: bytes) -> str:
    """Returns the format of an encoded image, one of `KINDS`, or "" for others."""
    if data[:2] == b"\xff\xd8":
        has_exif = any(data.startswith(EXIF, offset) for offset in EXIF_OFFSETS)
        return TURNED_JPEG if has_exif else JPEG
    magics = {PNG: b"\x89PNG", GIF: b"GIF8", BMP: b"BM"}
    return next((kind for kind, m in magics.items() if data.startswith(m)), "")


def decode_image(
    data: tf.Tensor, config: ImageConfig, kinds: Sequence[str] = KINDS
) -> tf.Tensor:
    """Decodes one image and resizes it to a square.

    Args:
        data: () string: JPEG, PNG, GIF (its first frame) or BMP.
        kinds: Formats that can occur. Fewer give a smaller graph with the same
            result; serving has all of them.

    Returns:
        (size_px, size_px, 3) uint8 RGB. Alpha is blended over white; the Exif
        orientation of a JPEG is applied. The aspect ratio is not preserved.

    Raises:
        tf.errors.InvalidArgumentError: Of another format, truncated, or too large.
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
        is_jpeg = bytes_at(data, 0, 2) == b"\xff\xd8"
        pixels = tf.cond(
            is_jpeg & ~_has_exif(data),
            lambda: _decode_jpeg(data, config),
            lambda: others(data),
        )
    return tf.ensure_shape(pixels, [config.size_px, config.size_px, 3])


def _decode_jpeg(data, config):
    height, width, _ = tf.unstack(tf.image.extract_jpeg_shape(data))
    with _size_checked(height, width, config):
        return _resize(tf.io.decode_jpeg(data, channels=3), config)


def _decode_other(data, config, kinds):
    magic = bytes_at(data, 0, 4)
    branches = {
        TURNED_JPEG: (bytes_at(data, 0, 2) == b"\xff\xd8", _decode_turned_jpeg),
        PNG: (magic == b"\x89PNG", _decode_png),
        GIF: (magic == b"GIF8", _decode_gif),
        BMP: (bytes_at(data, 0, 2) == b"BM", _decode_bmp),
    }
    cases = [
        (is_kind, partial(decode, data, config))
        for kind, (is_kind, decode) in branches.items()
        if kind in kinds
    ]
    refuse = partial(_refuse, config)
    return tf.case(cases, default=refuse) if cases else refuse()


def _decode_turned_jpeg(data, config):
    return orient(_decode_jpeg(data, config), exif_orientation(data))


def _decode_png(data, config):
    width, height = numbers_at(data, 16, 2, tf.int32, little_endian=False)
    with _size_checked(height, width, config):
        rgba = tf.io.decode_png(data, channels=4)  # (H, W, 4)
    # Without alpha TF fills in the largest value of the file's depth, not 255.
    (depth,) = numbers_at(data, 24, 1, tf.uint8)
    filler = tf.bitwise.left_shift(tf.constant(1, tf.int64), tf.minimum(depth, 8)) - 1
    opaque = tf.reduce_all(rgba[..., 3] == tf.cast(filler, tf.uint8))
    rgb = tf.cond(opaque, lambda: rgba[..., :3], lambda: _over_white(rgba))
    return _resize(rgb, config)


def _decode_gif(data, config):
    width, height = numbers_at(data, 6, 2, tf.int16)
    with _size_checked(height, width, config):
        frame = tf.io.decode_image(data, channels=3, expand_animations=False)
    return _resize(tf.ensure_shape(frame, [None, None, 3]), config)


def _decode_bmp(data, config):
    width, height = numbers_at(data, 18, 2, tf.int32)
    height = tf.minimum(height, 2**32 - height)  # negative if the top row is first
    with _size_checked(height, width, config):
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


def _has_exif(data):
    """Returns () bool: whether an Exif block is at one of the two offsets."""
    first, second = (bytes_at(data, n, len(EXIF)) == EXIF for n in EXIF_OFFSETS)
    return first | second


def exif_orientation(data: tf.Tensor) -> tf.Tensor:
    """Reads the orientation of a JPEG: () string -> () int32, 1 to 8; 1 is default.

    Source: TIFF 6.0 section 2 (layout) and Exif 2.3 tag 0x0112 (orientation).
    """
    is_first = bytes_at(data, EXIF_OFFSETS[0], len(EXIF)) == EXIF
    start = tf.where(is_first, *EXIF_OFFSETS) + len(EXIF)
    return tf.cond(
        _has_exif(data),
        lambda: _tiff_orientation(bytes_at(data, start, 1024)),
        lambda: tf.constant(1),
    )


def _tiff_orientation(block):
    raw = tf.cast(tf.io.decode_raw(block, tf.uint8), tf.int32)
    raw = tf.pad(raw, [[0, 1024 + 12 * _IFD_ENTRIES]])  # reads past the end are 0
    little = tf.strings.substr(block, 0, 2) == b"II"

    def number(offset):  # two bytes each
        low, high = tf.gather(raw, offset), tf.gather(raw, offset + 1)
        return tf.where(little, low + 256 * high, high + 256 * low)

    # The directory's offset has four bytes; one past the first 1,000 is not followed.
    low_half = number(tf.where(little, 4, 6))
    directory = tf.where((number(tf.where(little, 6, 4)) == 0), low_half, 1024)
    directory = tf.minimum(directory, 1000)
    entries = directory + 2 + 12 * tf.range(_IFD_ENTRIES)
    is_entry = tf.range(_IFD_ENTRIES) < number(directory)
    is_orientation = is_entry & (number(entries) == ORIENTATION_TAG)
    value = tf.reduce_max(tf.where(is_orientation, number(entries + 8), 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def orient(square: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a (S, S, 3) image upright by its Exif orientation, 1 to 8."""
    mirrored = (orientation == 2) | (orientation == 4) | (orientation == 5)
    mirrored |= orientation == 7
    turns = tf.gather([0, 0, 0, 2, 2, 1, 3, 3, 1], orientation)  # counter-clockwise

    def rotate():
        mirror = tf.cond(mirrored, lambda: square[:, ::-1], lambda: square)
        return tf.image.rot90(mirror, turns)

    return tf.cond(orientation > 1, rotate, lambda: square)
