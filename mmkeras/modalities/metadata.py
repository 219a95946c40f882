"""What a medium is like, as it stood in its file: sizes, silence, clipping."""

import io
import struct

import numpy as np
import soundfile

from mmkeras.modalities.audio.reading import (
    _EXTENSIBLE,
    _PLAIN_WAVES,
    _Stream,
    _wave_chunks,
)
from mmkeras.modalities.file import reading
from mmkeras.modalities.image.reading import _PICTURES, _picture_kind
from mmkeras.schema import (
    AUDIO_CHANNELS,
    AUDIO_CLIPPED,
    AUDIO_RATE,
    AUDIO_SECONDS,
    AUDIO_SILENT,
    IMAGE_CHANNELS,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    TEXT_CHARACTERS,
)

_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type; 3 is a palette
_WIDTH_TAG, _HEIGHT_TAG = 256, 257  # of TIFF
# Of what is heard no more is looked at: 95 seconds of 88.2 kHz stereo, in 64 MB.
_MEASURED_SAMPLES = 2**24
# The topmost code of 16 bits, where sounds of more bits are often clipped, too.
_FULL_SCALE = 32_767 / 32_768
_FULL_SCALE_8_BITS = 127 / 128
_FRAME_S = 0.02
_SILENCE_DBFS = -60.0


def measure_image(data: bytes) -> dict[str, int]:
    """Measures a picture that `prepare_image` accepts, by its header alone.

    Width and height are in px as they are stored, whichever way up that is. Channels:
    1 gray, 2 gray and alpha, 3 RGB or palette, 4 RGB and alpha, or CMYK.
    """
    kind = _picture_kind(data)
    with reading(kind):
        image = _PICTURES[kind](io.BytesIO(data))
    width, height = image.size
    if kind == "TIFF":  # Pillow has already turned its size
        width, height = (image.tag_v2[tag] for tag in (_WIDTH_TAG, _HEIGHT_TAG))
    channels = 3 if image.mode == "P" else len(image.getbands())
    if kind == "PNG":  # Pillow calls 16 bits of gray and alpha RGBA
        channels = _PNG_CHANNELS.get(data[25], channels)
    return {IMAGE_WIDTH: width, IMAGE_HEIGHT: height, IMAGE_CHANNELS: channels}


def measure_audio(data: bytes, wave: bytes, clip_s: float) -> dict[str, int | float]:
    """Measures a sound that `prepare_audio` accepts.

    Seconds (of the whole file), rate in Hz and channels are the file's own; the length
    of an MP3 that does not say it is a guess. The shares are of the first `clip_s`
    seconds, which are all that the model gets, and of no more than 2^24 samples:

    - clipped: samples of flat tops, which means three or more in a row of the same
      value, at full scale or beyond. What lossy decoders make of loud sounds rises
      beyond it and is no flat top; all beyond twice full scale is one.
    - silent: frames of 20 ms below -60 dBFS RMS in each channel, where a full-scale
      square wave has 0 dBFS; a constant offset is no sound.

    Args:
        data: The file.
        wave: What `prepare_audio` made of it.
        clip_s: Seconds that the model gets.
    """
    kind, channels, rate_hz = _format(wave)
    at, size = _wave_chunks(wave)[b"data"]
    frames = size * 8 // (kind[1] * channels)
    clip = min(int(np.ceil(clip_s * rate_hz)), frames, _MEASURED_SAMPLES // channels)
    raw = memoryview(wave)[at : at + clip * channels * kind[1] // 8]
    samples = np.ascontiguousarray(_to_float(raw, kind).reshape(-1, channels).T)
    full_scale = _FULL_SCALE_8_BITS if kind == (1, 8) else _FULL_SCALE
    return {
        AUDIO_SECONDS: max(frames / rate_hz, _announced_s(data)),
        AUDIO_RATE: rate_hz,
        AUDIO_CHANNELS: channels,
        AUDIO_CLIPPED: _clipped(samples, full_scale),
        AUDIO_SILENT: _silent(samples, rate_hz),
    }


def measure_text(data: bytes) -> dict[str, int]:
    """Counts the characters, not the bytes, of a text in UTF-8."""
    return {TEXT_CHARACTERS: len(data.decode("utf-8", "replace"))}


def _format(wave):
    """Returns (format code, bits), channels and rate of a WAV file."""
    at, _ = _wave_chunks(wave)[b"fmt "]
    code, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", wave, at)
    if code == _EXTENSIBLE:
        (code,) = struct.unpack_from("<H", wave, at + 24)
    return (code, bits), channels, rate_hz


def _announced_s(data):
    """Returns the length in the header of what was cut to the clip; 0 of a whole WAV.

    A WAV that the graph parses is whole, and libsndfile may refuse or misread it.
    """
    is_wave = data.startswith(b"RIFF") and data[8:12] == b"WAVE"
    if is_wave and _format(data)[0] in _PLAIN_WAVES:
        return 0.0
    with soundfile.SoundFile(_Stream(data)) as sound:
        return sound.frames / sound.samplerate


def _to_float(raw, kind):
    """Returns interleaved float32; of floats all beyond twice full scale is cut."""
    code, bits = kind
    if code == 3:  # the largest floats have no square
        return np.frombuffer(raw, f"<f{bits // 8}").clip(-2, 2).astype(np.float32)
    if bits == 8:
        return np.frombuffer(raw, np.uint8).astype(np.float32) / 128 - 1
    if bits == 24:  # the lowest byte of three is far below what is measured
        top = np.ndarray(len(raw) // 3, "<i2", raw, offset=1, strides=3)
        return top.astype(np.float32) / 2**15
    return np.frombuffer(raw, f"<i{bits // 8}").astype(np.float32) / 2 ** (bits - 1)


def _clipped(samples, full_scale):
    if max(samples.max(), -samples.min()) < full_scale:
        return 0.0
    full = np.abs(samples) >= full_scale
    flat = full[:, 1:] & (samples[:, 1:] == samples[:, :-1])  # as the one before
    tops = np.pad(flat[:, :-1] & flat[:, 1:], ((0, 0), (2, 2)))  # a third in a row
    return float((tops[:, :-2] | tops[:, 1:-1] | tops[:, 2:]).mean())


def _silent(samples, rate_hz):
    frame = min(round(_FRAME_S * rate_hz), samples.shape[1])
    whole = samples.shape[1] // frame * frame
    frames = samples[:, :whole].reshape(len(samples), -1, frame)  # (channels, T, S / T)
    loudest = frames.var(2).max(0)
    return float((loudest < 10 ** (_SILENCE_DBFS / 10)).mean())
