"""Short WAV excerpts for a report."""

import numpy as np

from mmkeras.config import Config
from mmkeras.modalities.audio.wav import wav_bytes
from mmkeras.modalities.decoders import MediaDecoders

_EXCERPT_S = 5


def wave_excerpt(data: bytes, config: Config, decoders: MediaDecoders) -> bytes:
    """Returns the first seconds of the model's wave as a 16-bit WAV."""
    wave = decoders.wave(data)[: _EXCERPT_S * config.audio.rate_hz]
    samples = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
    return wav_bytes(samples[:, None], 16, config.audio.rate_hz)
