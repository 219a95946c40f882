"""The HTK mel scale, as `tf.signal.linear_to_mel_weight_matrix` has it."""

import numpy as np


def hz_to_mel(hz: np.ndarray | float) -> np.ndarray:
    """Returns hertz as mels."""
    return 2595 * np.log10(1 + np.asarray(hz) / 700)


def mel_to_hz(mel: np.ndarray | float) -> np.ndarray:
    """Inverse of `hz_to_mel`."""
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)
