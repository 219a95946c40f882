"""The HTK mel scale, as in `tf.signal.linear_to_mel_weight_matrix`."""

import numpy as np


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """Converts hertz to mels."""
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def mel_to_hz(mel: np.ndarray | float) -> np.ndarray:
    """Converts mels to hertz."""
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)
