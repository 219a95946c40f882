"""Tags and announced length of an MP3."""

import re
import struct

_XING = (b"Xing", b"Info")
_XING_OFFSETS = range(4, 42)  # after the header, a checksum and the side information
_HAS_FRAMES, _HAS_BYTES = 1, 2  # flags: which numbers follow
_STREAM_BITS = 0xFFFE0C00  # of a header: sync, version, layer and sample rate
_ID3V1_BYTES, _APE_BYTES = 128, 32
_ZEROS = re.compile(b"\0*")


def without_id3(data: bytes) -> bytes:
    """Returns the data without ID3v2 tags, and zeros after them, in front.

    Source: ID3v2.4.0, section 3.1.
    """
    offset = 0
    while data.startswith(b"ID3", offset) and len(data) >= offset + 10:
        flags, a, b, c, d = data[offset + 5 : offset + 10]  # 4 times 7 bits
        size = 10 + (a << 21 | b << 14 | c << 7 | d)
        footer = 10 if flags & 0x10 else 0
        offset = _ZEROS.match(data, offset + size + footer).end()
    return data[offset:]


def is_mpeg(data: bytes) -> bool:
    """Whether the data begin like a frame of MPEG audio, of layer I to III."""
    header = int.from_bytes(data[:4], "big")
    version, layer, rate = header >> 19 & 3, header >> 17 & 3, header >> 10 & 3
    return header >> 21 == 0x7FF and version != 1 and layer != 0 and rate != 3


def announced_mp3(data: bytes) -> tuple[bytes, bool]:
    """Returns an MP3 without tags at its end, and whether it announces its length.

    An announcement that is shorter than the file, as if another file was appended, is
    made invalid.

    Source: "Xing VBR header", Xing Technology, 1999; APEv2, section "APE Tags Header".
    """
    data = _without_tail(data)
    tag = next((i for i in _XING_OFFSETS if data[i : i + 4] in _XING), 0)
    if not tag or len(data) < tag + 16:
        return data, False
    flags, frames, size = struct.unpack_from(">III", data, tag + 4)
    has_both = flags & _HAS_FRAMES and flags & _HAS_BYTES
    rest = data[size:] if has_both else b""
    first_frame = data.find(data[:2], tag)  # some writers do not count it
    if len(rest) > max(first_frame, 0) and _stream_bits(rest) == _stream_bits(data):
        return data[:tag] + bytes(4) + data[tag + 4 :], False
    return data, bool(flags & _HAS_FRAMES and frames)


def _without_tail(data):
    if data[-_ID3V1_BYTES:].startswith(b"TAG"):
        data = data[:-_ID3V1_BYTES]
    if data[-_APE_BYTES:].startswith(b"APETAGEX"):  # the footer is counted
        _, size, _, flags = struct.unpack_from("<IIII", data, len(data) - 24)
        data = data[: -size - (_APE_BYTES if flags >> 31 else 0)] if size else data
    return data


def _stream_bits(data):
    return int.from_bytes(data[:4], "big") & _STREAM_BITS
