"""Audio files: checks, and transcoding to WAV where the graph cannot decode them."""

import io
import re
import struct
from typing import NamedTuple

import numpy as np
import soundfile

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio import wav
from mmkeras.modalities.audio.av_decoder import av_format, decode_av
from mmkeras.modalities.audio.c_stderr import no_c_stderr
from mmkeras.modalities.audio.mp3 import (
    announced_mp3,
    is_mpeg,
    whole_frames,
    without_id3,
)
from mmkeras.modalities.audio.ogg import split_ogg
from mmkeras.modalities.file import Unreadable, translate_errors

_FORMATS = "WAV WAVEX FLAC OGG MP3 AIFF AU W64 RF64 CAF".split()
_SUPPORTED = "supported: WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, AU, W64, RF64, CAF, "
_SUPPORTED += "M4A, AAC, WebM"
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
_UNKNOWN_FRAMES = 2**62  # libsndfile's number of frames without length in the header
_RATE_RATIO = 100  # more than that of the bit rates of MP3, 8 to 320 kbit/s
_STREAM_START = b"fLaC\0\0\0\x22"  # of a FLAC


_MAGICS = (
    b"RIFF",
    b"RF64",
    b"fLaC",
    b"OggS",
    b"ID3",
    b"FORM",
    b".snd",
    b"riff",
    b"caff",
)


class AudioContent(NamedTuple):
    """Audio that the served graph decodes.

    Attributes:
        wav: WAV file.
        seconds: Length of the original file, which may be longer.
        notes: Faults of the original file that lose no samples.
    """

    wav: bytes
    seconds: float
    notes: tuple[str, ...] = ()


def prepare_audio(data: bytes, config: AudioConfig) -> bytes:
    """Returns a WAV file that the served graph decodes; see `read_audio`.

    Example:
        wav = prepare_audio(Path("moo.flac").read_bytes(), AudioConfig(clip_s=5))
    """
    return read_audio(data, config).wav


def read_audio(data: bytes, config: AudioConfig) -> AudioContent:
    """Reads an audio file as a WAV file that the served graph decodes.

    WAV with PCM of 8, 16, 24 or 32 bits, IEEE floats, mu-law or A-law, plain or
    extensible, is returned unchanged, except that a wrong data size of a file that is
    whole is corrected. Every other file is checked to its end, and its first
    `config.clip_s` seconds (and a margin) become a WAV of the same rate and channels:
    16-bit for PCM up to 16 bits, 24-bit for 24, else float.

    Raises:
        Unreadable: Empty, of another format, truncated, unreadable, without samples,
            or with samples in the clip that are not finite.
    """
    if not data:
        raise Unreadable("file is empty")
    data, notes = without_id3(data), ()
    if wav.is_wav(data):
        with translate_errors("WAV"):
            data, fmt, notes = _with_real_size(data)
            if fmt.is_plain:
                return _plain_wav(data, fmt, notes, config)
        if fmt.code in wav.MPEG:
            offset, size = wav.wav_chunks(data)[b"data"]
            data = without_id3(data[offset : offset + size])
    if kind := av_format(data):
        audio = decode_av(data, kind, config.clip_s + _MARGIN_S, _CHECKED_SAMPLES)
        _check_format(audio.samples.shape[1], audio.rate_hz)
        _check_finite(audio.samples)
        content = wav.wav_bytes(audio.samples, 32, audio.rate_hz)
        return AudioContent(content, audio.seconds, notes + audio.notes)
    content = _transcode(data, config)
    return content._replace(notes=(*notes, *content.notes))


def is_audio(data: bytes) -> bool:
    """Whether a file has the signature of a supported format."""
    return data.startswith(_MAGICS) or is_mpeg(data) or bool(av_format(data))


def _with_real_size(data):
    """Returns the file with its real data size, its format, and notes."""
    chunks = wav.wav_chunks(data)
    if chunks.get(b"fmt ", (0, 0))[1] < 16 or b"data" not in chunks:
        raise Unreadable("truncated or unreadable WAV: no format or no data chunk")
    fmt = wav.wav_format(data)
    offset, size = chunks[b"data"]
    real, notes = _real_data_size(data, offset, size)
    if fmt.is_plain:
        _check_format(fmt.channels, fmt.rate_hz)
    # A chunk that is cut, or open, is the last one, unless the format follows an open
    # one: then the graph finds both where they are.
    if real != size and wav.wav_chunks(data)[b"fmt "][0] < offset:
        byte_count = real - real % fmt.frame_bytes if fmt.is_plain else real
        data = _with_data_size(data, offset, byte_count)
    return data, fmt, notes


def _plain_wav(data, fmt, notes, config):
    if fmt.is_ambiguous:
        raise Unreadable("unreadable WAV: 24 bits in 4 bytes are ambiguous; re-encode")
    offset, size = wav.wav_chunks(data)[b"data"]
    if wav.is_open(data, offset, size):
        size = len(data) - offset
    frames = size // fmt.frame_bytes
    if not frames:
        raise Unreadable("no audio samples")
    if fmt.code == wav.IEEE_FLOAT:
        clip = min(frames, int(np.ceil(config.clip_s * fmt.rate_hz)))
        dtype, count = f"<f{fmt.bits // 8}", clip * fmt.channels
        _check_finite(np.frombuffer(data, dtype, count, offset))
    return AudioContent(data, frames / fmt.rate_hz, notes)


def _real_data_size(data, offset, size):
    rest = len(data) - offset
    if wav.is_open(data, offset, size):
        return rest, ()
    if wav.is_cut(size, rest, len(data)):
        raise Unreadable(f"truncated WAV: {rest} bytes of audio of {size} announced")
    if size > rest:
        return rest, (f"the WAV announces {size} bytes of audio and has {rest}",)
    return size, ()


def _with_data_size(data, offset, size):
    padding = size % 2
    riff_size = struct.pack("<I", offset + size + padding - 8)
    head = data[:4] + riff_size + data[8 : offset - 4] + struct.pack("<I", size)
    return head + data[offset : offset + size] + b"\0" * padding


def _check_format(channels, rate_hz):
    if not 1 <= channels <= wav.MAX_CHANNELS:
        raise Unreadable(f"{channels} channels (supported: 1 to {wav.MAX_CHANNELS})")
    if not wav.MIN_RATE_HZ <= rate_hz <= wav.MAX_RATE_HZ:
        limits = f"{wav.MIN_RATE_HZ} to {wav.MAX_RATE_HZ}"
        raise Unreadable(f"sample rate {rate_hz} Hz (supported: {limits})")


def _check_finite(samples):
    with np.errstate(over="ignore"):  # beyond 32 bits is infinite in the graph
        finite = np.isfinite(samples.astype(np.float32, copy=False)).all()
    if not finite:
        raise Unreadable("samples that are not finite numbers")


class AudioStream(io.BytesIO):
    """Bytes for libsndfile, which seeks before the start of damaged files.

    BytesIO would raise, and cffi print that with its traceback. Without `has_length`
    the file seems longer than it is: libsndfile guesses the samples of an MP3 that does
    not announce them from the first frames, and reads no more.
    """

    def __init__(self, data: bytes, has_length: bool = True):
        super().__init__(data)
        self._end = len(data) if has_length else _RATE_RATIO * len(data)

    def seek(self, offset, whence=io.SEEK_SET):
        if whence == io.SEEK_END and offset == 0:
            return super().seek(self._end)
        return super().seek(max(offset, 0) if whence == io.SEEK_SET else offset, whence)


class _SequentialFile(soundfile.SoundFile):
    """Sound file that is read without seeking.

    soundfile seeks after each read, and a lossy decoder then lacks the frames before.
    """

    def seekable(self):
        return False


def _transcode(data, config):
    links, has_length, notes = [data], True, ()
    if data.startswith(b"OggS"):
        links, has_end = split_ogg(data)
        notes = () if has_end else ("the Ogg stream has no end-of-stream page",)
    elif is_mpeg(data):
        link, has_length = announced_mp3(data)
        if not has_length:
            link, notes = whole_frames(link)
        links = [link]
    elif data.startswith(b"fLaC") and data.find(_STREAM_START, 4) > 0:
        raise Unreadable("several FLAC streams in one file; re-encode it")
    try:
        with no_c_stderr():
            content = _read_links(links, has_length, config)
    except soundfile.LibsndfileError as error:
        if error.code == 1:  # SF_ERR_UNRECOGNISED_FORMAT
            raise Unreadable(f"unsupported format ({_SUPPORTED})") from None
        if is_mpeg(data):  # libsndfile only knows an "unspecified internal error"
            raise Unreadable("damaged or truncated MP3") from error
        reason = error.error_string.removeprefix("Error : ")
        raise Unreadable(f"truncated or unreadable audio: {reason}") from error
    return content._replace(notes=notes + content.notes)


def _read_links(links, has_length, config):
    """Reads the files one after another, which must have one format."""
    blocks, frames, formats, notes = [], 0, set(), []
    for link in links:
        with _SequentialFile(AudioStream(link, has_length)) as file:
            if file.format not in _FORMATS:
                raise Unreadable(f"unsupported {file.format} ({_SUPPORTED})")
            _check_format(file.channels, file.samplerate)
            notes += _check_announced(link, file)
            depth = _DEPTHS.get(file.subtype, 32)
            formats.add((depth, file.samplerate, file.channels))
            if len(formats) > 1:
                raise Unreadable(f"{file.format} whose rate or channels change")
            clip = int((config.clip_s + _MARGIN_S) * file.samplerate) + 1
            checked = _CHECKED_SAMPLES - frames * file.channels
            samples, read = _read_samples(
                file, depth, clip - frames, checked, has_length
            )
        blocks.append(samples)
        frames += read
    if not frames:
        raise Unreadable("no audio samples")
    (depth, rate_hz, _) = formats.pop()
    data = wav.wav_bytes(np.concatenate(blocks), depth, rate_hz)
    return AudioContent(data, frames / rate_hz, tuple(notes))


def _check_announced(data, file):
    """Refuses a file that is cut, of which libsndfile would read the rest.

    Returns notes on wrong sizes in a file that is whole.
    """
    notes = []
    for announced, real in _SHOULD_BE.findall(file.extra_info):
        announced, real = int(announced), int(real)
        if real >= announced or announced >= wav.STREAMED:
            continue
        if wav.is_cut(announced, real, len(data)):
            raise Unreadable(f"truncated {file.format}: {real} bytes of {announced}")
        notes.append(f"the {file.format} announces {announced} bytes and has {real}")
    return notes


def _read_samples(file, depth, limit, checked, has_length):
    """Reads to the end, or `checked` samples of all channels, in blocks.

    Returns (frames, channels) samples, at most `limit` frames, and all frames' number.
    """
    blocks = [np.zeros((0, file.channels), _DTYPES[depth])]
    frames = 0
    # Without the limit FLAC would look for samples in the tags after its end.
    while block_frames := min(_BLOCK, file.frames - frames):
        block = file.read(block_frames, dtype=_DTYPES[depth], always_2d=True)
        if not len(block):
            break
        if depth == 32:
            _check_finite(block)
        if frames < limit:
            blocks.append(block[: limit - frames])
        frames += len(block)
        if frames * file.channels >= checked:  # the rest is not checked
            has_length &= file.frames < _UNKNOWN_FRAMES
            return np.concatenate(blocks), file.frames if has_length else frames
    if frames < file.frames < _UNKNOWN_FRAMES and has_length:
        raise Unreadable(
            f"truncated {file.format}: {frames} samples of {file.frames} announced"
        )
    return np.concatenate(blocks), frames
