"""Tags and announced length of an MP3."""

import re
import struct

_XING = (b"Xing", b"Info")
_XING_OFFSETS = range(4, 42)  # after the header, a checksum and the side information
_HAS_FRAMES, _HAS_BYTES = 1, 2  # flags: which numbers follow
_STREAM_BITS = 0xFFFE0C00  # of a header: sync, version, layer and sample rate
_ID3V1_BYTES, _APE_BYTES = 128, 32
# By bits of the header. kbit/s by version 1 or not, and layer; Hz by version.
_KBPS = {
    (True, 3): range(0, 449, 32),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBPS[False, 1] = _KBPS[False, 2]
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000)}
_RATES_HZ[0] = (11_025, 12_000, 8_000)
_ZEROS = re.compile(b"\0*")
_ID3V1 = re.compile(b"(?<!APE)TAG")


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


def whole_frames(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Returns the frames without an incomplete last one and without zeros, and notes.

    libmpg123 fails at either if the length is not announced. The data stay as they
    are if something else than frames follows.
    """
    end = 0
    while size := _frame_bytes(data[end : end + 4], data):
        if end + size > len(data):
            break
        end += size
    if end and not data[end:].strip(b"\0"):
        return data[:end], ()
    if end and (size or len(data) < end + 4):
        return data[:end], ("the last frame of the MP3 is incomplete",)
    return data, ()


def _frame_bytes(header, first):
    """Returns the size of a frame, or 0 if it is not one of the stream of `first`.

    Source: ISO 11172-3, section 2.4.3.1, and ISO 13818-3.
    """
    bits = int.from_bytes(header, "big")
    version, layer, kbps, rate = (bits >> shift for shift in (19, 17, 12, 10))
    version, layer, kbps, rate = version & 3, layer & 3, kbps & 15, rate & 3
    is_same = is_mpeg(header) and _stream_bits(header) == _stream_bits(first)
    if not is_same or len(header) < 4 or kbps in (0, 15):
        return 0
    samples = 384 if layer == 3 else 576 if layer == 1 and version != 3 else 1152
    slot_bytes = 4 if layer == 3 else 1
    bits_per_s = 1000 * _KBPS[version == 3, layer][kbps]
    slots = samples * bits_per_s // (8 * slot_bytes * _RATES_HZ[version][rate])
    return slot_bytes * (slots + (bits >> 9 & 1))


def _without_tail(data):
    """Removes tags at the end, after which zeros may follow."""
    end = len(data.rstrip(b"\0"))
    tag = _ID3V1.search(data, max(end - _ID3V1_BYTES, 0))
    if tag and tag.start() <= len(data) - _ID3V1_BYTES:
        data = data[: tag.start()]
    end = len(data.rstrip(b"\0"))
    foot = data.find(b"APETAGEX", max(end - _APE_BYTES, 0))
    if 0 <= foot <= len(data) - _APE_BYTES:  # the footer is counted
        _, size, _, flags = struct.unpack_from("<IIII", data, foot + 8)
        header = _APE_BYTES if flags >> 31 else 0
        data = data[: max(foot + _APE_BYTES - size - header, 0)] if size else data
    return data


def _stream_bits(data):
    return int.from_bytes(data[:4], "big") & _STREAM_BITS
