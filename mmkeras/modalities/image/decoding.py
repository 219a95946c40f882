"""Encoded picture -> pixels. The same function trains and serves."""

from collections.abc import Sequence
from functools import partial

import tensorflow as tf

from mmkeras.config import ImageConfig
from mmkeras.modalities.byte_ops import bytes_at, numbers_at, require

# Kinds of pictures that the graph decodes; a "turned" JPEG has an Exif block.
JPEG, TURNED_JPEG, PNG, GIF, BMP = "jpeg", "turned_jpeg", "png", "gif", "bmp"
KINDS = (JPEG, TURNED_JPEG, PNG, GIF, BMP)

_EXIF = b"Exif\x00\x00"
# Where the Exif block of a JPEG begins: behind the start marker, or behind that and
# a JFIF block without thumbnail. Ingest transcodes a JPEG that has it elsewhere.
EXIF_OFFSETS = (6, 24)
_ORIENTATION_TAG = 0x0112
_IFD_ENTRIES = 64  # as many of the block's entries are searched


def image_kind(data: bytes) -> str:
    """Returns the kind of an encoded picture, one of `KINDS`, or "" for no picture."""
    if data[:2] == b"\xff\xd8":
        places = (data[at : at + len(_EXIF)] for at in EXIF_OFFSETS)
        return TURNED_JPEG if _EXIF in places else JPEG
    magics = {PNG: b"\x89PNG", GIF: b"GIF8", BMP: b"BM"}
    return next((kind for kind, m in magics.items() if data.startswith(m)), "")


def decode_image(
    data: tf.Tensor, config: ImageConfig, kinds: Sequence[str] = KINDS
) -> tf.Tensor:
    """Decodes one picture and resizes it to a square.

    Args:
        data: () string: JPEG, PNG, GIF (its first frame) or BMP.
        config: Side of the square, and the largest picture that is decoded.
        kinds: Those of `KINDS` that can occur. Serving has them all; where it is
            known that rows have fewer, the graph is smaller and the answer the same.

    Returns:
        (size_px, size_px, 3) uint8 RGB. Alpha is laid over white; the Exif
        orientation of a JPEG is applied. The aspect ratio is not kept.

    Raises:
        tf.errors.InvalidArgumentError: No such picture, truncated, or too large.
    """
    if list(kinds) == [JPEG]:
        pixels = _decode_jpeg(data, config)
    else:
        # Even untaken branches cost time for each of their ops, so that the most
        # frequent kind stands first, and the others in a function of their own.
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
    chosen = [
        (is_kind, partial(decode, data, config))
        for kind, (is_kind, decode) in branches.items()
        if kind in kinds
    ]
    if not chosen:  # no row has a picture
        return _refuse(config)
    return tf.case(chosen, default=lambda: _refuse(config))


def _decode_turned_jpeg(data, config):
    return orient(_decode_jpeg(data, config), exif_orientation(data))


def _decode_png(data, config):
    width, height = numbers_at(data, 16, 2, tf.int32, little_endian=False)
    with _size_checked(height, width, config):
        rgba = tf.io.decode_png(data, channels=4)  # (H, W, 4)
    # Without alpha TF fills in the largest value of the file's own depth, not 255.
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
    height = tf.minimum(height, 2**32 - height)  # negative: the top row comes first
    with _size_checked(height, width, config):
        pixels = tf.io.decode_bmp(data)
    return _resize(tf.ensure_shape(pixels[..., :3], [None, None, 3]), config)


def _refuse(config):
    with require(False, "not a JPEG, PNG, GIF or BMP"):
        return tf.zeros([config.size_px, config.size_px, 3], tf.uint8)


def _size_checked(height, width, config):
    """Refuses a picture of too many pixels before its memory is taken."""
    pixels = tf.cast(height, tf.int64) * tf.cast(width, tf.int64)
    limit = config.max_megapixels * 1_000_000
    fits = (pixels > 0) & (pixels <= limit)
    return require(fits, f"more pixels than {limit}, or none")


def _over_white(rgba):
    alpha = tf.cast(rgba[..., 3:], tf.float32) / 255  # (H, W, 1)
    rgb = tf.cast(rgba[..., :3], tf.float32) * alpha + 255 * (1 - alpha)
    return tf.cast(tf.round(rgb), tf.uint8)


def _resize(pixels, config):
    """(H, W, 3) uint8 -> square uint8; area-averaged when it shrinks by two or more.

    Plain bilinear would skip pixels there; area costs three times as much.
    """
    size = [config.size_px, config.size_px]
    shrinks = tf.reduce_min(tf.shape(pixels)[:2]) >= 2 * config.size_px
    square = tf.cond(
        shrinks,
        lambda: tf.image.resize(pixels, size, method="area"),
        lambda: tf.image.resize(pixels, size),
    )
    return tf.cast(square + 0.5, tf.uint8)  # rounded; both methods stay in [0, 255]


def _has_exif(data):
    """Tells whether an Exif block stands at one of the two places: () bool."""
    first, second = (
        bytes_at(data, offset, len(_EXIF)) == _EXIF for offset in EXIF_OFFSETS
    )
    return first | second


def exif_orientation(data: tf.Tensor) -> tf.Tensor:
    """Reads the Exif orientation of a JPEG: () string -> () int32, 1 to 8.

    1 (upright) when there is none, or when the block is damaged.

    Source: TIFF 6.0 section 2 (layout) and Exif 2.3 tag 0x0112 (orientation).
    """
    is_first = bytes_at(data, EXIF_OFFSETS[0], len(_EXIF)) == _EXIF
    start = tf.where(is_first, *EXIF_OFFSETS) + len(_EXIF)
    return tf.cond(
        _has_exif(data),
        lambda: _tiff_orientation(bytes_at(data, start, 1024)),
        lambda: tf.constant(1),
    )


def _tiff_orientation(block):
    raw = tf.cast(tf.io.decode_raw(block, tf.uint8), tf.int32)
    raw = tf.pad(raw, [[0, 1024 + 12 * _IFD_ENTRIES]])  # reads past the end are 0
    little = tf.strings.substr(block, 0, 2) == b"II"

    def number(at):  # two bytes each
        low, high = tf.gather(raw, at), tf.gather(raw, at + 1)
        return tf.where(little, low + 256 * high, high + 256 * low)

    # The directory's offset has four bytes; one past the first 1,000 is not followed.
    low_half = number(tf.where(little, 4, 6))
    directory = tf.where((number(tf.where(little, 6, 4)) == 0), low_half, 1024)
    directory = tf.minimum(directory, 1000)
    entries = directory + 2 + 12 * tf.range(_IFD_ENTRIES)
    is_entry = tf.range(_IFD_ENTRIES) < number(directory)
    found = is_entry & (number(entries) == _ORIENTATION_TAG)
    value = tf.reduce_max(tf.where(found, number(entries + 8), 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def orient(square: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns a (S, S, 3) picture upright by its Exif orientation, 1 to 8."""
    mirrored = (orientation == 2) | (orientation == 4) | (orientation == 5)
    mirrored |= orientation == 7
    turns = tf.gather([0, 0, 0, 2, 2, 1, 3, 3, 1], orientation)  # counter-clockwise
    return tf.cond(
        orientation > 1,
        lambda: tf.image.rot90(
            tf.cond(mirrored, lambda: square[:, ::-1], lambda: square), turns
        ),
        lambda: square,
    )
