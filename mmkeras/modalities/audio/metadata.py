"""Length, rate, channels, clipping and silence of an audio file."""

import numpy as np

from mmkeras.modalities.audio.reading import AudioContent
from mmkeras.modalities.audio.wav import (
    IEEE_FLOAT,
    PCM,
    law_samples,
    wav_chunks,
    wav_format,
)

# At most 95 seconds of 88.2 kHz stereo, in 64 MB.
_MEASURED_SAMPLES = 2**24
# The topmost code of 16 bits, where audio of more bits is often clipped, too.
_FULL_SCALE = 32_767 / 32_768
_FULL_SCALE_8_BITS = 127 / 128
_FRAME_S = 0.02
_SILENCE_DBFS = -60.0


def measure_audio(audio: AudioContent, clip_s: float) -> dict[str, int | float]:
    """Measures an audio file.

    Seconds (of the entire file), rate in Hz and channels are those of the file. The
    shares are of the first `clip_s` seconds, which are the model's input, and of at
    most 2^24 samples:

    - clipped: share of samples in flat tops, which are three or more equal samples in
      sequence at full scale or beyond. Peaks of a lossy decoder beyond full scale are
      no flat tops; samples beyond twice full scale are.
    - silent: share of 20 ms frames below -60 dBFS RMS in each channel, where a
      full-scale square wave has 0 dBFS; a constant offset counts as silence.
    """
    wav, fmt = audio.wav, wav_format(audio.wav)
    channels, sample_bytes = fmt.channels, fmt.bits // 8
    offset, size = wav_chunks(wav)[b"data"]
    frames = size // (sample_bytes * channels)
    limit = min(int(np.ceil(clip_s * fmt.rate_hz)), _MEASURED_SAMPLES // channels)
    clip = min(limit, frames)
    raw = memoryview(wav)[offset : offset + clip * channels * sample_bytes]
    samples = np.ascontiguousarray(_to_float(raw, fmt).reshape(-1, channels).T)
    full_scale = _FULL_SCALE_8_BITS if fmt.bits == 8 else _FULL_SCALE
    if fmt.code not in (PCM, IEEE_FLOAT):
        full_scale = law_samples(fmt.code).max()
    return {
        "seconds": audio.seconds,
        "rate_hz": fmt.rate_hz,
        "channels": channels,
        "clipped": _clipped(samples, full_scale),
        "silent": _silent(samples, fmt.rate_hz),
    }


def _to_float(raw, fmt):
    """Returns interleaved float32; floats are clipped at twice full scale."""
    if fmt.code not in (PCM, IEEE_FLOAT):
        return law_samples(fmt.code)[np.frombuffer(raw, np.uint8)]
    if fmt.code == IEEE_FLOAT:  # the largest floats have no square
        return np.frombuffer(raw, f"<f{fmt.bits // 8}").clip(-2, 2).astype(np.float32)
    if fmt.bits == 8:
        return np.frombuffer(raw, np.uint8).astype(np.float32) / 128 - 1
    if fmt.bits == 24:  # the lowest byte of three is far below the thresholds
        top = np.ndarray(len(raw) // 3, "<i2", raw, offset=1, strides=3)
        return top.astype(np.float32) / 2**15
    codes = np.frombuffer(raw, f"<i{fmt.bits // 8}")
    return codes.astype(np.float32) / 2 ** (fmt.bits - 1)


def _clipped(samples, full_scale):
    if max(samples.max(), -samples.min()) < full_scale:
        return 0.0
    full = np.abs(samples) >= full_scale
    flat = full[:, 1:] & (samples[:, 1:] == samples[:, :-1])  # equal to the one before
    tops = np.pad(flat[:, :-1] & flat[:, 1:], ((0, 0), (2, 2)))  # third in sequence
    return float((tops[:, :-2] | tops[:, 1:-1] | tops[:, 2:]).mean())


def _silent(samples, rate_hz):
    frame = min(round(_FRAME_S * rate_hz), samples.shape[1])
    end = samples.shape[1] // frame * frame
    frames = samples[:, :end].reshape(len(samples), -1, frame)  # (channels, T, S / T)
    loudest = frames.var(2).max(0)
    return float((loudest < 10 ** (_SILENCE_DBFS / 10)).mean())
