"""Headers of JPEG, PNG, GIF and BMP; `header_ops.py` reads the same in the graph."""

import struct

ORIENTATION_TAG = 0x0112
SHORT, LONG = 3, 4  # types of TIFF
EXIF, EXIF_MARKER = b"Exif\0\0", 0xFFE1
EXIF_BYTES = 65_536  # of a block that are read
# Segments, bytes between them, chunks or blocks that are read, far more than files
# have: a limit for the time of hostile ones.
MAX_STEPS = 4096
# Markers of segments before the frame header of a JPEG, of frame headers, and without
# a length, which decoders skip as they skip bytes that are no marker.
FILL = 0xFFFF
SINGLE = [0xFF00, 0xFF01, *range(0xFFD0, 0xFFD8)]
FRAME_HEADERS = [m for m in range(0xFFC0, 0xFFD0) if m not in (0xFFC4, 0xFFC8, 0xFFCC)]
SEGMENTS = [0xFFC4, 0xFFC8, 0xFFCC, *range(0xFFDB, FILL + 1)]
SCAN = 0xFFDA  # before the pixels
GIF_EXTENSION, GIF_CONTROL, GIF_IMAGE = 0x21, 0xF9, 0x2C


def jpeg_header(data: bytes) -> tuple[bytes | None, tuple[int, int, int]]:
    """Returns a JPEG's Exif block, and height, width and components.

    The block is that of the first Exif segment before the frame header, or None. The
    numbers are 0 if there is no frame header, or if the data end before the pixels.

    Source: ISO 10918-1, annex B.1.1 (markers) and B.2.2 (frame header).
    """
    offset, block, numbers = 2, None, None
    for _ in range(MAX_STEPS + 1):
        head = data[offset : offset + 10]
        if len(head) < 10:
            return block, (0, 0, 0)
        marker, size = struct.unpack(">HH", head[:4])
        if marker in FRAME_HEADERS and numbers is None:
            numbers = struct.unpack(">HHB", head[5:])
        is_exif = marker == EXIF_MARKER and head[4:] == EXIF
        if is_exif and block is None and numbers is None:
            block = data[offset + 10 : offset + 2 + size]
        if marker == FILL or marker < 0xFF00:
            offset += 1
        elif marker in SINGLE:
            offset += 2
        elif marker in SEGMENTS or marker in FRAME_HEADERS:
            offset += 2 + size
        else:
            break
    is_cut = marker == SCAN and offset + 2 + size >= len(data)
    return block, (0, 0, 0) if is_cut or numbers is None else numbers


def png_exif(data: bytes) -> bytes:
    """Returns a PNG's Exif block before its pixels, else b"".

    Source: Portable Network Graphics, third edition, sections 5.3 and 11.3.4.2.
    """
    offset = 8
    for _ in range(MAX_STEPS + 1):
        if offset + 8 > len(data):
            break
        size, name = struct.unpack_from(">I4s", data, offset)
        if name == b"eXIf":
            return data[offset + 8 : offset + 8 + size][:EXIF_BYTES]
        if name == b"IDAT":
            break
        offset += size + 12
    return b""


def exif_orientation(block: bytes) -> int:
    """Returns an Exif block's orientation, 1 to 8; 1 if it has none or is damaged.

    Source: TIFF 6.0 section 2 (layout) and Exif 2.3 tag 0x0112 (orientation).
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    try:
        (directory,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, directory)
        for offset in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", block, offset)
            if tag == ORIENTATION_TAG:
                form = {SHORT: "HH", LONG: "I"}[kind]
                value = struct.unpack_from(order + form, block, offset + 8)[0]
                return value if count == 1 and 1 <= value <= 8 else 1
    except (struct.error, KeyError):
        pass
    return 1


def is_opaque_gif(data: bytes) -> bool:
    """Whether a GIF's first frame fills the canvas with opaque colors.

    Source: GIF89a specification, 1990, sections 18 to 24.
    """
    try:
        *canvas, flags = struct.unpack_from("<HHB", data, 6)
        offset = 13 + (flags >> 7) * 3 * 2 ** (flags % 8 + 1)
        is_in_extension = is_transparent = False
        for _ in range(MAX_STEPS):
            value = data[offset]
            if is_in_extension:  # of blocks with their lengths, the last one empty
                offset, is_in_extension = offset + 1 + value, value > 0
            elif value == GIF_EXTENSION:
                if data[offset + 1] == GIF_CONTROL:
                    is_transparent = data[offset + 3] % 2 == 1
                offset, is_in_extension = offset + 2, True
            else:
                break
        start, *frame, frame_flags = struct.unpack_from("<BHHHHB", data, offset)
    except (struct.error, IndexError):
        return False
    has_palette = (flags | frame_flags) >= 0x80
    fills = frame == [0, 0, *canvas]
    is_image = start == GIF_IMAGE and not is_in_extension
    return is_image and fills and has_palette and not is_transparent


def is_true_color_bmp(data: bytes) -> bool:
    """Whether a BMP has 24 or 32 bits per pixel without compression or masks.

    Source: BITMAPINFOHEADER, Microsoft.
    """
    if len(data) < 34:
        return False
    header_bytes, *_, bits, compression = struct.unpack_from("<IiiHHI", data, 14)
    return header_bytes >= 40 and bits in (24, 32) and compression == 0
