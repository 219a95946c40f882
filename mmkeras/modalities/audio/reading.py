"""Sounds: as they came where the served graph decodes them, else WAV."""

import io
import re
import struct

import numpy as np
import soundfile

from mmkeras.config import AudioConfig
from mmkeras.modalities.file import Unreadable, reading

_SOUNDS = "WAV WAVEX FLAC OGG MP3 AIFF AU W64 RF64 CAF".split()
_SOUND_NAMES = "WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, AU, W64, RF64, CAF"
# What the graph parses: format code (1 PCM, 3 IEEE float) and bits.
_PLAIN_WAVES = {(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)}
_EXTENSIBLE = 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_MAX_CHANNELS = 64  # more is a damaged header: 7th-order ambisonics has 64
_STREAMED = 0x7FFF0000  # from here on, sizes that writers to a pipe leave behind
# libsndfile's log of a chunk longer than the file. The size of the whole file is left
# out where a chunk tells more: many writers get it wrong by its own 8 bytes.
_SHOULD_BE = re.compile(r"^ *(?!RIFF|FORM)[^:\n]*: (\d+) \(should be (\d+)\)", re.M)
_BLOCK = 65_536  # frames decoded at once
_MARGIN_S = 0.5  # behind the clip, for the resampling at its end
# A sound is read to its end, but no farther than this: 1.7 hours of 44.1 kHz mono,
# three seconds of work. Silence in FLAC packs years into a megabyte.
_CHECKED_SAMPLES = 2**28
_DEPTHS = {"PCM_S8": 16, "PCM_U8": 16, "PCM_16": 16, "ALAC_16": 16}
_DEPTHS |= {"PCM_24": 24, "ALAC_20": 24, "ALAC_24": 24}  # all others: 32-bit float
_READ_AS = {16: "int16", 24: "int32", 32: "float32"}


def prepare_audio(data: bytes, config: AudioConfig) -> bytes:
    """Returns a WAV file that the served graph decodes.

    PCM of 8, 16, 24 or 32 bits and IEEE floats, plain or extensible, come back as
    they came; only a data size that a streaming writer left open, or that ends
    inside a frame, is filled in. Every other sound is checked to its end and its
    first `config.clip_s` seconds (and a margin) become a WAV of the same rate and
    channels: 16-bit where it was 16-bit PCM or less, 24-bit where 24, else float.

    Raises:
        BadMedia: Empty, of another format, truncated, unreadable, without samples,
            or with samples that are not finite.
    """
    if not data:
        raise Unreadable("file is empty")
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        with reading("WAV"):
            wave = _plain_wave(data)
        if wave is not None:
            return wave
    return _transcode_sound(data, config)


def _plain_wave(data):
    """Returns the file where it is of a kind that the graph parses, else None."""
    chunks = _wave_chunks(data)
    at, size = chunks.get(b"fmt ", (0, 0))
    if size < 16 or b"data" not in chunks:
        raise Unreadable("truncated or unreadable WAV: no format or no data chunk")
    code, channels, rate_hz, _, frame, bits = struct.unpack_from("<HHIIHH", data, at)
    if code == _EXTENSIBLE and size >= 40 and data[at + 26 : at + 40] == _GUID_TAIL:
        (code,) = struct.unpack_from("<H", data, at + 24)
    if (code, bits) not in _PLAIN_WAVES:
        return None
    _check_sound(channels, rate_hz)
    if frame != channels * bits // 8:
        raise Unreadable(
            f"unreadable WAV: {channels} channels of {bits} bits in {frame}"
        )
    at, size = chunks[b"data"]
    real = _real_data_size(data, at, size) // frame * frame
    if not real:
        raise Unreadable("no sound in it")
    if code == 3:
        _check_finite(np.frombuffer(data, f"<f{bits // 8}", real * 8 // bits, at))
    return data if real == size else _with_data_size(data, at, real)


def _wave_chunks(data):
    """Returns {name: (where its content begins, bytes)} of each name's first."""
    chunks, at = {}, 12
    while at + 8 <= len(data) and not {b"fmt ", b"data"} <= chunks.keys():
        name, size = struct.unpack_from("<4sI", data, at)
        chunks.setdefault(name, (at + 8, size))
        at += 8 + size + size % 2  # padded to an even length
    return chunks


def _real_data_size(data, at, size):
    there = len(data) - at
    is_open = size == 0 and not data[at : at + 4].strip().isalnum()  # next chunk's name
    if size >= _STREAMED or is_open:
        return there
    if size > there:
        raise Unreadable(f"truncated WAV: {there} bytes of sound of {size} announced")
    return size


def _with_data_size(data, at, size):
    padding = size % 2
    head = data[:4] + struct.pack("<I", at + size + padding - 8) + data[8 : at - 4]
    size_bytes = struct.pack("<I", size)
    return head + size_bytes + data[at : at + size] + b"\0" * padding


def _check_sound(channels, rate_hz):
    if not 1 <= channels <= _MAX_CHANNELS:
        raise Unreadable(f"{channels} channels (supported: 1 to {_MAX_CHANNELS})")
    if not 1_000 <= rate_hz <= 768_000:
        raise Unreadable(f"sample rate {rate_hz} Hz (supported: 1000 to 768000)")


def _check_finite(samples):
    with np.errstate(over="ignore"):  # too large for 32 bits is infinite to the graph
        finite = np.isfinite(samples.astype(np.float32, copy=False)).all()
    if not finite:
        raise Unreadable("samples that are not finite numbers")


def _transcode_sound(data, config):
    try:
        with soundfile.SoundFile(_Stream(data)) as sound:
            kind = sound.format
            if kind not in _SOUNDS:
                raise Unreadable(f"unsupported {kind} (supported: {_SOUND_NAMES})")
            _check_sound(sound.channels, sound.samplerate)
            _check_announced(data, sound)
            depth = _DEPTHS.get(sound.subtype, 32)
            samples = _read_samples(data, sound, depth, config)
            return wave_bytes(samples, depth, sound.samplerate)
    except soundfile.LibsndfileError as error:
        if error.code == 1:  # SF_ERR_UNRECOGNISED_FORMAT
            raise Unreadable(
                f"unsupported format (supported: {_SOUND_NAMES})"
            ) from None
        reason = error.error_string.removeprefix("Error : ")
        raise Unreadable(f"truncated or unreadable sound: {reason}") from error


class _Stream(io.BytesIO):
    """Bytes for libsndfile, which seeks before the start of damaged files.

    BytesIO would raise, and cffi print that with its traceback.
    """

    def seek(self, offset, whence=io.SEEK_SET):
        return super().seek(max(offset, 0) if whence == io.SEEK_SET else offset, whence)


def _check_announced(data, sound):
    """Refuses a file shorter than its header says; libsndfile would read the rest."""
    if sound.frames > 2**62:
        raise Unreadable(f"{sound.format} that does not say its length; re-encode it")
    for announced, there in _SHOULD_BE.findall(sound.extra_info):
        if int(there) < int(announced) < _STREAMED:
            raise Unreadable(f"truncated {sound.format}: {there} bytes of {announced}")
    if sound.format == "OGG" and not _ends_with_last_page(data):
        raise Unreadable("truncated Ogg: it does not end with a last page")


def _ends_with_last_page(data):
    """Source: RFC 3533 section 6, the Ogg page header."""
    at = data.rfind(b"OggS")
    if at < 0 or at + 27 > len(data):
        return False
    is_last, segments = data[at + 5] & 4, data[at + 26]
    sizes = data[at + 27 : at + 27 + segments]
    return is_last and at + 27 + segments + sum(sizes) <= len(data)


def _read_samples(data, sound, depth, config):
    """Reads to the end in blocks; returns (frames, channels) of the clip."""
    wanted = int((config.clip_s + _MARGIN_S) * sound.samplerate) + 1
    kept, frames = [], 0
    while frames * sound.channels < _CHECKED_SAMPLES:
        block = sound.read(_BLOCK, dtype=_READ_AS[depth], always_2d=True)
        if not len(block):
            break
        if depth == 32:
            _check_finite(block)
        if frames < wanted:
            kept.append(block[: wanted - frames])
        frames += len(block)
    else:
        return np.concatenate(kept)  # long enough: not read to its end
    if frames < sound.frames and _knows_frames(data, sound):
        raise Unreadable(
            f"truncated {sound.format}: {frames} samples of {sound.frames} announced"
        )
    if not frames:
        raise Unreadable("no sound in it")
    return np.concatenate(kept)


def _knows_frames(data, sound):
    """Whether a length is written in the file; that of other MP3s is a guess."""
    if sound.format != "MP3":
        return True
    start = 0
    if data.startswith(b"ID3") and len(data) >= 10:  # size in 4 times 7 bits
        a, b, c, d = data[6:10]
        start = 10 + (a << 21 | b << 14 | c << 7 | d)
    head = data[start : start + 2048]
    return b"Xing" in head or b"Info" in head


def wave_rate_hz(data: bytes) -> int:
    """Returns the sample rate of a WAV file that `prepare_audio` has let through."""
    at, _ = _wave_chunks(data)[b"fmt "]
    return struct.unpack_from("<I", data, at + 4)[0]


def wave_bytes(samples: np.ndarray, depth: int, rate_hz: int) -> bytes:
    """Writes (frames, channels) samples as WAV: 16 or 24 bits of PCM, or 32 of float.

    The same samples give the same bytes.
    """
    # Not by soundfile: it writes the time of day into WAV files of floats.
    channels = samples.shape[1]
    if depth == 24:  # libsndfile gives the three bytes above an empty one
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
