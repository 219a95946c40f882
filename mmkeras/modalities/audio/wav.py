"""The WAV file format: chunks, sample formats and a writer."""

import struct
from typing import NamedTuple

import numpy as np

# Pairs (code, bits) that the graph decodes; code 1 is PCM, 3 is IEEE float.
PLAIN_FORMATS = {(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)}
EXTENSIBLE = 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")


class WavFormat(NamedTuple):
    """The "fmt " chunk of a WAV file; `code` is that of the extension, if any."""

    code: int
    bits: int
    channels: int
    rate_hz: int
    frame_bytes: int

    @property
    def is_plain(self) -> bool:
        """Whether the graph decodes such samples."""
        return (self.code, self.bits) in PLAIN_FORMATS


def is_wav(data: bytes) -> bool:
    """Whether the bytes begin like a WAV file."""
    return data.startswith(b"RIFF") and data[8:12] == b"WAVE"


def wav_chunks(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Returns chunk name -> (offset of the content, bytes), up to "fmt " and "data"."""
    chunks, offset = {}, 12
    while offset + 8 <= len(data) and not {b"fmt ", b"data"} <= chunks.keys():
        name, size = struct.unpack_from("<4sI", data, offset)
        chunks.setdefault(name, (offset + 8, size))
        offset += 8 + size + size % 2  # padded to an even length
    return chunks


def wav_format(data: bytes) -> WavFormat:
    """Reads the "fmt " chunk.

    Raises:
        KeyError, struct.error: It is missing, or cut.
    """
    offset, size = wav_chunks(data)[b"fmt "]
    fields = struct.unpack_from("<HHIIHH", data, offset)
    code, channels, rate_hz, _, frame_bytes, bits = fields
    tail = data[offset + 26 : offset + 40]
    if code == EXTENSIBLE and size >= 40 and tail == _GUID_TAIL:
        (code,) = struct.unpack_from("<H", data, offset + 24)
    return WavFormat(code, bits, channels, rate_hz, frame_bytes)


def wav_bytes(samples: np.ndarray, depth: int, rate_hz: int) -> bytes:
    """Writes (frames, channels) samples as WAV: 16- or 24-bit PCM, or 32-bit float.

    Deterministic, unlike soundfile, which writes the time of day into float WAVs.
    """
    channels = samples.shape[1]
    if depth == 24:  # libsndfile puts the three bytes above an empty one
        raw = samples.astype("<i4", copy=False).reshape(-1, 1).view(np.uint8)
        body = raw[:, 1:].tobytes()
    else:
        body = samples.astype(samples.dtype.newbyteorder("<"), copy=False).tobytes()
    frame = channels * depth // 8
    code = 3 if depth == 32 else 1
    fmt = struct.pack("<HHIIHH", code, channels, rate_hz, rate_hz * frame, frame, depth)
    body = b"data" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    content = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + body
    return b"RIFF" + struct.pack("<I", len(content)) + content
