"""The WAV file format: chunks, sample formats and a writer."""

import re
import struct
from typing import NamedTuple

import numpy as np

PCM, IEEE_FLOAT, A_LAW, MU_LAW = 1, 3, 6, 7
MPEG = (0x50, 0x55)
# Pairs (code, bits) that the graph decodes.
PLAIN_FORMATS = {(PCM, 8), (PCM, 16), (PCM, 24), (PCM, 32)}
PLAIN_FORMATS |= {(IEEE_FLOAT, 32), (IEEE_FLOAT, 64), (A_LAW, 8), (MU_LAW, 8)}
EXTENSIBLE = 0xFFFE
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
MAX_CHANNELS = 64  # more is a damaged header: 7th-order ambisonics has 64
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 768_000
STREAMED = 0x7FFF0000  # larger sizes are placeholders of writers to a pipe
# Many writers count the header, or a part of it, as audio.
HEADER_BYTES = 44
CHUNK_NAME = r"[A-Za-z0-9][A-Za-z0-9 ]{3}"


class WavFormat(NamedTuple):
    """The "fmt " chunk of a WAV file; `code` is that of the extension, if any."""

    code: int
    bits: int
    channels: int
    rate_hz: int
    block_bytes: int

    @property
    def is_plain(self) -> bool:
        """Whether the graph decodes such samples."""
        return (self.code, self.bits) in PLAIN_FORMATS

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample in all channels; many writers misstate block_bytes."""
        return self.channels * self.bits // 8

    @property
    def is_ambiguous(self) -> bool:
        """Whether readers disagree: 24 bits in 4 bytes are also written for floats."""
        return self.bits == 24 and self.block_bytes == 4 * self.channels


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
    code, channels, rate_hz, _, block_bytes, bits = fields
    tail = data[offset + 26 : offset + 40]
    if code == EXTENSIBLE and size >= 40 and tail == GUID_TAIL:
        (code,) = struct.unpack_from("<H", data, offset + 24)
    return WavFormat(code, bits, channels, rate_hz, block_bytes)


def is_open(data: bytes, offset: int, size: int) -> bool:
    """Whether a streaming writer left the size of the data chunk at `offset` open.

    An empty data chunk is open unless the name of another chunk follows.
    """
    name = data[offset : offset + 4]
    is_empty = re.fullmatch(CHUNK_NAME.encode(), name)
    return size >= STREAMED or (size == 0 and not is_empty)


def is_cut(announced: int, real: int, file_bytes: int) -> bool:
    """Whether a chunk lacks bytes, and does not only count header bytes as audio."""
    counts_header = announced in (file_bytes, file_bytes - 8)
    return announced - real > HEADER_BYTES and not counts_header


def law_samples(code: int) -> np.ndarray:
    """Returns the (256,) float32 samples of the mu-law or A-law bytes, in [-1, 1].

    Source: ITU-T Recommendation G.711, 1988, tables 1 and 2, scaled to 16 bits.
    """
    octets = np.arange(256) ^ (0x55 if code == A_LAW else 0xFF)
    steps, segment = octets & 0x0F, (octets & 0x70) >> 4
    if code == A_LAW:
        size = (steps << 4) + 8 + np.where(segment > 0, 0x100, 0)
        size <<= np.maximum(segment - 1, 0)
        is_negative = octets < 0x80
    else:
        size = (((steps << 3) + 0x84) << segment) - 0x84
        is_negative = octets >= 0x80
    return (np.where(is_negative, -size, size) / 32_768).astype(np.float32)


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
    code = IEEE_FLOAT if depth == 32 else PCM
    fmt = struct.pack("<HHIIHH", code, channels, rate_hz, rate_hz * frame, frame, depth)
    body = b"data" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    content = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + body
    return b"RIFF" + struct.pack("<I", len(content)) + content
