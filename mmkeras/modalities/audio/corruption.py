"""Audio with white noise, for the robustness curves of a report."""

import numpy as np

from mmkeras.modalities.audio.reading import wave_bytes
from mmkeras.modalities.decoders import MediaDecoders


def add_noise(
    data: bytes, snr_db: float, rate_hz: int, decoders: MediaDecoders, seed: list[int]
) -> bytes:
    """Returns the sound as the model hears it under white noise, as WAV of floats.

    Args:
        data: A WAV file.
        snr_db: Power of the sound over that of the noise, in decibels; the mean over
            the whole sound. Silence stays silent.
        rate_hz: The model's sample rate.
        decoders: Those of the model.
        seed: Of the noise.

    Raises:
        BadMedia: The sound cannot be decoded.
    """
    wave = decoders.wave(data)
    noise = np.random.default_rng(seed).standard_normal(wave.shape)
    noise *= np.sqrt(np.mean(wave.astype("float64") ** 2) / 10 ** (snr_db / 10))
    return wave_bytes((wave + noise).astype(np.float32)[:, None], 32, rate_hz)
