"""Features of frame sequences and of waves for the linear baseline."""

from dataclasses import replace

import numpy as np
import tensorflow as tf

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.features import audio_vector, log_mel


def summarize_frames(frames: np.ndarray) -> np.ndarray:
    """Returns (N, 2 F): mean and standard deviation over each row's frames.

    `frames` are (N, T, F), all zeros in padding.
    """
    is_frame = (frames != 0).any(axis=2, keepdims=True)
    count = np.maximum(is_frame.sum(axis=1), 1)
    mean = frames.sum(axis=1) / count
    squares = (is_frame * (frames - mean[:, None]) ** 2).sum(axis=1) / count
    return np.concatenate([mean, np.sqrt(squares)], axis=1)


def summarize_waves(waves: np.ndarray, config: AudioConfig) -> np.ndarray:
    """Returns (N, 2 F): mean and deviation of the log-mel bands of each wave.

    `waves` are (N, 1 + S), the number of samples and the samples.
    """

    config = replace(config, segments=1)  # which is for encoders of statistics

    def summarize(wave):
        wave = wave[1 : 1 + tf.cast(wave[0], tf.int32)]
        return audio_vector(log_mel(wave, config), config)

    return tf.map_fn(summarize, tf.constant(waves)).numpy()
