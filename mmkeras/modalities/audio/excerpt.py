"""Short WAV excerpts for a report."""

import numpy as np

from mmkeras.modalities.audio.wav import wav_bytes

_EXCERPT_S = 5


def wave_excerpt(wave: np.ndarray, rate_hz: int) -> bytes:
    """Returns the first seconds of a wave (S,) as a 16-bit WAV."""
    wave = wave[: _EXCERPT_S * rate_hz]
    samples = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
    return wav_bytes(samples[:, None], 16, rate_hz)
