"""Audio of phones and browsers, which libsndfile does not read, decoded by PyAV."""

import io
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from mmkeras.environment.extras import missing_extra
from mmkeras.modalities.file import Unreadable, translate_errors

# Name of the format, and of FFmpeg's reader: only that one is tried.
_MP4, _WEBM, _AAC = ("M4A or MP4", "mov"), ("WebM", "matroska"), ("AAC", "aac")
# Less than this may be missing at the end of a file that is whole: the last packet of
# an encoder may be announced longer than it is. More than one packet is noted.
_TOLERANCE_S, _PACKET_S = 0.2, 0.06


class DecodedAudio(NamedTuple):
    """Samples of the start of a file.

    Attributes:
        samples: (frames, channels) float32 in [-1, 1], of at least the clip.
        rate_hz: Samples per second and channel.
        seconds: Length of the whole file.
        notes: Faults of the file that lose no samples.
    """

    samples: np.ndarray
    rate_hz: int
    seconds: float
    notes: tuple[str, ...] = ()


def av_format(data: bytes) -> tuple[str, str] | None:
    """Returns the format, and the name of its reader; None for another file.

    Source: ISO/IEC 14496-12 (ftyp), RFC 8794 (EBML), ISO/IEC 14496-3 (ADTS: 12 bits of
    synchronisation, and a layer of 0, where MP3 has 1).
    """
    if data[4:8] == b"ftyp":
        return _MP4
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return _WEBM
    is_adts = len(data) > 7 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0
    return _AAC if is_adts else None


def decode_av(
    data: bytes, kind: tuple[str, str], clip_s: float, max_samples: int
) -> DecodedAudio:
    """Decodes the first audio track of a file, to its end, by FFmpeg.

    Args:
        kind: Result of `av_format`.
        clip_s: Seconds of samples to return.
        max_samples: Samples, of all channels, after which decoding ends.

    Raises:
        Unreadable: The extra is missing, or the file has no audio, is truncated or
            damaged.

    Source: FFmpeg by PyAV, https://pyav.basswood-io.com.
    """
    name, reader = kind
    if find_spec("av") is None:
        raise Unreadable(str(missing_extra("av", name)))
    with translate_errors(name):
        import av

        try:
            return _decode(data, name, reader, clip_s, max_samples)
        except av.FFmpegError as error:  # its text has a number and no file name
            reason = f"truncated or unreadable {name}: {error.strerror}"
            raise Unreadable(reason) from error


def _decode(data, name, reader, clip_s, max_samples) -> DecodedAudio:
    import av

    blocks, frames, formats = [], 0, set()
    # Before PyAV 19 a title that is not UTF-8 is an error by default.
    is_old = int(av.__version__.partition(".")[0]) < 19
    options = {"metadata_errors": "ignore"} if is_old else {}
    with av.open(io.BytesIO(data), format=reader, **options) as file:
        if not file.streams.audio:
            raise Unreadable(f"{name} without audio")
        stream, announced_s = file.streams.audio[0], _announced_s(file, reader)
        to_float = av.AudioResampler(format="flt")  # keeps rate and channels
        for frame in file.decode(stream):
            rate_hz, channels = frame.sample_rate, frame.layout.nb_channels
            formats.add((rate_hz, channels))
            if len(formats) > 1:
                raise Unreadable(f"{name} whose rate or channels change")
            if not blocks or frames < clip_s * rate_hz:
                for part in to_float.resample(frame):
                    blocks.append(part.to_ndarray().reshape(-1, channels))
            frames += frame.samples
            if frames * channels >= max_samples:  # the rest is not checked
                frames = max(frames, round(announced_s * rate_hz))
                break
    if not frames:
        raise Unreadable("no audio samples")
    seconds = frames / rate_hz
    if seconds < announced_s - _TOLERANCE_S:
        raise Unreadable(f"truncated {name}: {seconds:.1f} s of {announced_s:.1f}")
    note = f"the {name} announces {announced_s:.2f} s and has {seconds:.2f}"
    notes = (note,) if seconds < announced_s - _PACKET_S else ()
    return DecodedAudio(np.concatenate(blocks), rate_hz, seconds, notes)


def _announced_s(file, reader) -> float:
    """Returns the length that the file states, or 0; FFmpeg guesses that of ADTS."""
    import av

    stream = file.streams.audio[0]
    if reader == _AAC[1]:
        return 0
    if stream.duration:
        return float(stream.duration * stream.time_base)
    only_audio = len(file.streams) == 1  # else another track may be longer
    return file.duration / av.time_base if file.duration and only_audio else 0
