"""Audio with white noise for the robustness curves of a report."""

import numpy as np

from mmkeras.modalities.audio.wav import wav_bytes
from mmkeras.modalities.decoder import Decoder


def add_noise(
    data: bytes, snr_db: float, rate_hz: int, decoder: Decoder, seed: list[int]
) -> bytes:
    """Returns a WAV file's wave with white noise, as float WAV, or raises Unreadable.

    `snr_db` is the mean power of the wave over that of the noise, in decibels; silence
    stays silent. `rate_hz` is the model's sample rate.
    """
    wave = decoder(data)
    noise = np.random.default_rng(seed).standard_normal(wave.shape)
    noise *= np.sqrt(np.mean(wave.astype("float64") ** 2) / 10 ** (snr_db / 10))
    return wav_bytes((wave + noise).astype(np.float32)[:, None], 32, rate_hz)
