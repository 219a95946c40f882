"""Headers of JPEG, PNG, GIF and BMP in the graph, as `headers.py` reads them."""

import numpy as np
import tensorflow as tf

from mmkeras.modalities.byte_ops import bytes_at, numbers_at
from mmkeras.modalities.image import headers

# Kinds of JPEG markers, by their distance to 0xfeff, which stands for no marker. The
# first ones are also the numbers of bytes to skip.
_END, _BYTE, _SINGLE, _SEGMENT, _FRAME = range(5)
_MARKERS = np.full(257, _END, np.int32)
for _kind, _markers in (
    (_BYTE, [0xFEFF]),
    (_SINGLE, headers.SINGLE),
    (_SEGMENT, headers.SEGMENTS),
    (_FRAME, headers.FRAME_HEADERS),
    (_BYTE, [headers.FILL]),
):
    _MARKERS[[m - 0xFEFF for m in _markers]] = _kind


def find_exif_or_frame(
    data: tf.Tensor, skip_exif: bool = False
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Finds the first Exif segment of a JPEG before its frame header, or that header.

    With `skip_exif` only the frame header.

    Returns the () int32 offset of its marker, () bool: whether it is an Exif segment,
    and () bool: whether it is a frame header; neither in a damaged file.
    """

    def read(offset):
        head = tf.strings.join([bytes_at(data, offset, 4), b"\0\0\0\0"])
        marker, size = numbers_at(head, 0, 2, tf.int16, little_endian=False)
        is_exif = (marker == headers.EXIF_MARKER) & (
            bytes_at(data, offset + 4, 6) == headers.EXIF
        )
        is_exif &= not skip_exif
        kind = tf.gather(_MARKERS, tf.maximum(marker - 0xFEFF, 0))
        kind = tf.where(offset + 4 <= tf.strings.length(data), kind, _END)
        step = tf.where(kind == _SEGMENT, 2 + tf.cast(size, tf.int32), kind)
        return offset, step, kind, is_exif

    offset, _, kind, is_exif = tf.while_loop(
        lambda _, step, kind, is_exif: (kind != _END) & (kind != _FRAME) & ~is_exif,
        lambda offset, step, kind, is_exif: read(offset + step),
        read(tf.constant(2)),
        maximum_iterations=headers.MAX_STEPS,
    )
    is_frame = (kind == _FRAME) & (offset + 10 <= tf.strings.length(data))
    return offset, is_exif, is_frame


def jpeg_exif(data: tf.Tensor) -> tf.Tensor:
    """Returns a JPEG's Exif block before its frame header, () string; or ""."""
    offset, is_exif, _ = find_exif_or_frame(data)
    raw = tf.strings.join([bytes_at(data, offset + 2, 2), b"\0\0"])
    (size,) = numbers_at(raw, 0, 1, tf.int16, little_endian=False)
    count = tf.maximum(tf.cast(size, tf.int32) - 8, 0)
    return bytes_at(data, offset + 10, tf.where(is_exif, count, 0))


def png_exif(data: tf.Tensor) -> tf.Tensor:
    """Returns a PNG's Exif block before its pixels, () string; or ""."""
    end = tf.strings.length(data)

    def read_size(offset):
        (size,) = numbers_at(data, offset, 1, tf.int32, little_endian=False)
        return tf.cast(tf.minimum(size, tf.cast(end, tf.int64)), tf.int32)

    def is_other(offset):
        name = bytes_at(data, offset + 4, 4)
        return (offset + 8 <= end) & (name != b"IDAT") & (name != b"eXIf")

    (offset,) = tf.while_loop(
        is_other,
        lambda offset: (offset + read_size(offset) + 12,),
        (tf.constant(8),),
        maximum_iterations=headers.MAX_STEPS,
    )
    has_exif = (offset + 8 <= end) & (bytes_at(data, offset + 4, 4) == b"eXIf")
    return tf.cond(
        has_exif,
        lambda: bytes_at(
            data, offset + 8, tf.minimum(read_size(offset), headers.EXIF_BYTES)
        ),
        lambda: tf.constant(""),
    )


def exif_orientation(block: tf.Tensor) -> tf.Tensor:
    """Returns the orientation of a () string Exif block, () int32 from 1 to 8."""
    is_little = bytes_at(block, 0, 4) == b"II*\0"
    is_exif = is_little | (bytes_at(block, 0, 4) == b"MM\0*")
    padded = tf.strings.join([block, bytes(12)])
    raw = tf.cast(tf.io.decode_raw(padded, tf.uint8), tf.int32)
    size = tf.strings.length(block)

    def short(offset):
        low, high = tf.gather(raw, offset), tf.gather(raw, offset + 1)
        return tf.where(is_little, low + 256 * high, high + 256 * low)

    def halves(offset):  # of four bytes: the lower and the higher one
        first, second = short(offset), short(offset + 2)
        return tf.where(is_little, (first, second), (second, first))

    low, high = tf.unstack(halves(4))
    directory = tf.where(high == 0, tf.minimum(low, size), size)
    entries = tf.minimum(short(directory), (size - directory - 2) // 12)
    offsets = directory + 2 + 12 * tf.range(tf.maximum(entries, 0))
    tags = tf.where(short(offsets) == headers.ORIENTATION_TAG)[:, 0]

    def read():
        offset = offsets[tags[0]]
        kind, (low, high) = short(offset + 2), tf.unstack(halves(offset + 8))
        is_short = kind == headers.SHORT
        value = tf.where(is_short, short(offset + 8), low)
        is_valid = is_short | ((kind == headers.LONG) & (high == 0))
        is_valid &= tf.reduce_all(halves(offset + 4) == (1, 0))
        return tf.where(is_valid & (value >= 1) & (value <= 8), value, 1)

    has_tag = is_exif & (tf.size(tags) > 0)
    return tf.cond(has_tag, read, lambda: tf.constant(1))


def is_opaque_gif(data: tf.Tensor) -> tf.Tensor:
    """Whether a GIF's first frame fills the canvas with opaque colors, () bool."""

    def octet(offset):  # 0 past the end
        padded = tf.strings.join([bytes_at(data, offset, 1), b"\0"])
        return numbers_at(padded, 0, 1, tf.uint8)[0]

    def skip(offset, is_in_extension, is_transparent):
        value = octet(offset)
        is_control = ~is_in_extension & (octet(offset + 1) == headers.GIF_CONTROL)
        flag = octet(offset + 3) % 2 == 1
        step = tf.where(is_in_extension, 1 + value, 2)
        return (
            offset + tf.cast(step, tf.int32),
            ~is_in_extension | (value > 0),
            tf.where(is_control, flag, is_transparent),
        )

    flags = octet(10)
    palette = tf.where(flags >= 0x80, 3 * 2 ** (flags % 8 + 1), 0)
    start = (13 + tf.cast(palette, tf.int32), tf.constant(False), tf.constant(False))
    offset, is_in_extension, is_transparent = tf.while_loop(
        lambda offset, is_in_extension, _: (
            (offset < tf.strings.length(data))
            & (is_in_extension | (octet(offset) == headers.GIF_EXTENSION))
        ),
        skip,
        start,
        maximum_iterations=headers.MAX_STEPS,
    )
    box = tf.strings.join([b"\0\0\0\0", bytes_at(data, 6, 4)])
    fills = bytes_at(data, offset + 1, 8) == box
    has_palette = (flags >= 0x80) | (octet(offset + 9) >= 0x80)
    version = bytes_at(data, 0, 6)
    is_image = (version == b"GIF87a") | (version == b"GIF89a")
    is_image &= (octet(offset) == headers.GIF_IMAGE) & ~is_in_extension
    is_image &= offset + 10 <= tf.strings.length(data)
    return is_image & fills & has_palette & ~is_transparent


def is_true_color_bmp(data: tf.Tensor) -> tf.Tensor:
    """Whether a BMP has 24 or 32 bits per pixel without compression, () bool."""
    (header_bytes,) = numbers_at(data, 14, 1, tf.int32)
    (bits,) = numbers_at(data, 28, 1, tf.int16)
    (compression,) = numbers_at(data, 30, 1, tf.int32)
    is_true_color = (bits == 24) | (bits == 32)
    return (header_bytes >= 40) & is_true_color & (compression == 0)
