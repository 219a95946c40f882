"""Audio files: checks, and transcoding to WAV where the graph cannot decode them."""

import io
import re
import struct

import numpy as np
import soundfile

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.av_decoder import av_format, decode_av
from mmkeras.modalities.audio.wav import is_wav, wav_bytes, wav_chunks, wav_format
from mmkeras.modalities.file import Unreadable, translate_errors

_FORMATS = "WAV WAVEX FLAC OGG MP3 AIFF AU W64 RF64 CAF".split()
_SUPPORTED = "supported: WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, AU, W64, RF64, CAF, "
_SUPPORTED += "M4A, AAC, WebM"
_MAX_CHANNELS = 64  # more is a damaged header: 7th-order ambisonics has 64
_STREAMED = 0x7FFF0000  # larger sizes are placeholders of writers to a pipe
# libsndfile's log of a chunk longer than the file. The RIFF or FORM size is ignored:
# many writers set it 8 bytes off, and a chunk is more exact.
_SHOULD_BE = re.compile(r"^ *(?!RIFF|FORM)[^:\n]*: (\d+) \(should be (\d+)\)", re.M)
_BLOCK = 65_536  # frames decoded at once
_MARGIN_S = 0.5  # after the clip, for the resampling at its end
# Audio is checked to its end, up to this limit: 1.7 hours of 44.1 kHz mono, three
# seconds of work. Silence in FLAC packs years into a megabyte.
_CHECKED_SAMPLES = 2**28
_DEPTHS = {"PCM_S8": 16, "PCM_U8": 16, "PCM_16": 16, "ALAC_16": 16}
_DEPTHS |= {"PCM_24": 24, "ALAC_20": 24, "ALAC_24": 24}  # all others: 32-bit float
_DTYPES = {16: "int16", 24: "int32", 32: "float32"}


def prepare_audio(data: bytes, config: AudioConfig) -> bytes:
    """Returns a WAV file that the served graph decodes.

    WAV with PCM of 8, 16, 24 or 32 bits or IEEE floats, plain or extensible, is
    returned unchanged, except that a data size left open by a streaming writer, or
    ending inside a frame, is filled in. Every other file is checked to its end, and
    its first `config.clip_s` seconds (and a margin) become a WAV of the same rate and
    channels: 16-bit for PCM up to 16 bits, 24-bit for 24, else float.

    Raises:
        Unreadable: Empty, of another format, truncated, unreadable, without samples,
            or with samples that are not finite.

    Example:
        wav = prepare_audio(Path("moo.flac").read_bytes(), AudioConfig(clip_s=5))
    """
    if not data:
        raise Unreadable("file is empty")
    if is_wav(data):
        with translate_errors("WAV"):
            wav = _plain_wav(data)
        if wav is not None:
            return wav
    if kind := av_format(data):
        audio = decode_av(data, kind, config.clip_s + _MARGIN_S, _CHECKED_SAMPLES)
        _check_format(audio.samples.shape[1], audio.rate_hz)
        _check_finite(audio.samples)
        return wav_bytes(audio.samples, 32, audio.rate_hz)
    return _transcode(data, config)


def _plain_wav(data):
    """Returns the file with its real data size; None if the graph cannot decode it."""
    chunks = wav_chunks(data)
    if chunks.get(b"fmt ", (0, 0))[1] < 16 or b"data" not in chunks:
        raise Unreadable("truncated or unreadable WAV: no format or no data chunk")
    fmt = wav_format(data)
    if not fmt.is_plain:
        return None
    _check_format(fmt.channels, fmt.rate_hz)
    frame = fmt.frame_bytes
    if frame != fmt.channels * fmt.bits // 8:
        raise Unreadable(
            f"unreadable WAV: {fmt.channels} channels of {fmt.bits} bits in {frame}"
        )
    offset, size = chunks[b"data"]
    real = _real_data_size(data, offset, size) // frame * frame
    if not real:
        raise Unreadable("no audio samples")
    if fmt.code == 3:
        dtype, count = f"<f{fmt.bits // 8}", real * 8 // fmt.bits
        _check_finite(np.frombuffer(data, dtype, count, offset))
    return data if real == size else _with_data_size(data, offset, real)


def _real_data_size(data, offset, size):
    rest = len(data) - offset
    # An empty data chunk is open unless the name of another chunk follows.
    is_open = size == 0 and not data[offset : offset + 4].strip().isalnum()
    if size >= _STREAMED or is_open:
        return rest
    if size > rest:
        raise Unreadable(f"truncated WAV: {rest} bytes of audio of {size} announced")
    return size


def _with_data_size(data, offset, size):
    padding = size % 2
    riff_size = struct.pack("<I", offset + size + padding - 8)
    head = data[:4] + riff_size + data[8 : offset - 4] + struct.pack("<I", size)
    return head + data[offset : offset + size] + b"\0" * padding


def _check_format(channels, rate_hz):
    if not 1 <= channels <= _MAX_CHANNELS:
        raise Unreadable(f"{channels} channels (supported: 1 to {_MAX_CHANNELS})")
    if not 1_000 <= rate_hz <= 768_000:
        raise Unreadable(f"sample rate {rate_hz} Hz (supported: 1000 to 768000)")


def _check_finite(samples):
    with np.errstate(over="ignore"):  # beyond 32 bits is infinite in the graph
        finite = np.isfinite(samples.astype(np.float32, copy=False)).all()
    if not finite:
        raise Unreadable("samples that are not finite numbers")


class AudioStream(io.BytesIO):
    """Bytes for libsndfile, which seeks before the start of damaged files.

    BytesIO would raise, and cffi print that with its traceback.
    """

    def seek(self, offset, whence=io.SEEK_SET):
        return super().seek(max(offset, 0) if whence == io.SEEK_SET else offset, whence)


def _transcode(data, config):
    try:
        with soundfile.SoundFile(AudioStream(data)) as file:
            if file.format not in _FORMATS:
                raise Unreadable(f"unsupported {file.format} ({_SUPPORTED})")
            _check_format(file.channels, file.samplerate)
            _check_announced(data, file)
            depth = _DEPTHS.get(file.subtype, 32)
            samples = _read_samples(data, file, depth, config)
            return wav_bytes(samples, depth, file.samplerate)
    except soundfile.LibsndfileError as error:
        if error.code == 1:  # SF_ERR_UNRECOGNISED_FORMAT
            raise Unreadable(f"unsupported format ({_SUPPORTED})") from None
        reason = error.error_string.removeprefix("Error : ")
        raise Unreadable(f"truncated or unreadable audio: {reason}") from error


def _check_announced(data, file):
    """Refuses a file that is cut: libsndfile would read the rest."""
    if file.frames > 2**62:
        raise Unreadable(f"{file.format} without length in its header; re-encode it")
    for announced, real in _SHOULD_BE.findall(file.extra_info):
        if int(real) < int(announced) < _STREAMED:
            raise Unreadable(f"truncated {file.format}: {real} bytes of {announced}")
    if file.format == "OGG" and not _ends_with_last_page(data):
        raise Unreadable("truncated Ogg: it does not end with a last page")


def _ends_with_last_page(data):
    """Source: RFC 3533 section 6, the Ogg page header."""
    offset = data.rfind(b"OggS")
    if offset < 0 or offset + 27 > len(data):
        return False
    is_last, segments = data[offset + 5] & 4, data[offset + 26]
    sizes = data[offset + 27 : offset + 27 + segments]
    return is_last and offset + 27 + segments + sum(sizes) <= len(data)


def _read_samples(data, file, depth, config):
    """Reads to the end in blocks; returns (frames, channels) of the clip."""
    limit = int((config.clip_s + _MARGIN_S) * file.samplerate) + 1
    blocks, frames = [], 0
    while frames * file.channels < _CHECKED_SAMPLES:
        block = file.read(_BLOCK, dtype=_DTYPES[depth], always_2d=True)
        if not len(block):
            break
        if depth == 32:
            _check_finite(block)
        if frames < limit:
            blocks.append(block[: limit - frames])
        frames += len(block)
    else:
        return np.concatenate(blocks)  # at the limit: the rest is not checked
    if frames < file.frames and _has_length(data, file):
        raise Unreadable(
            f"truncated {file.format}: {frames} samples of {file.frames} announced"
        )
    if not frames:
        raise Unreadable("no audio samples")
    return np.concatenate(blocks)


def _has_length(data, file):
    """Whether the file states its length; libsndfile guesses that of other MP3s."""
    if file.format != "MP3":
        return True
    start = 0
    if data.startswith(b"ID3") and len(data) >= 10:  # size in 4 times 7 bits
        a, b, c, d = data[6:10]
        start = 10 + (a << 21 | b << 14 | c << 7 | d)
    head = data[start : start + 2048]
    return b"Xing" in head or b"Info" in head
