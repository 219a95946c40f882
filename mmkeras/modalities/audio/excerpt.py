"""The first seconds of an audio file, for a report."""

import numpy as np

from mmkeras.config import Config
from mmkeras.modalities.audio.reading import wave_bytes
from mmkeras.modalities.decoders import MediaDecoders

_PLAYED_S = 5


def wave_excerpt(data: bytes, config: Config, decoders: MediaDecoders) -> bytes:
    """Returns the first seconds, as the model hears them, as a small WAV."""
    wave = decoders.wave(data)[: _PLAYED_S * config.audio.rate_hz]
    samples = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
    return wave_bytes(samples[:, None], 16, config.audio.rate_hz)
