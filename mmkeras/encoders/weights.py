"""Weights files of backbones, in the formats that Keras reads."""

import warnings
from pathlib import Path

import keras

_SKIPPED = "Skipping nested container"


def load_all_weights(backbone: keras.Model, path: str | Path) -> None:
    """Loads a weights file into a backbone.

    Raises:
        ValueError, OSError, KeyError: The file cannot be read, or lacks weights of the
            backbone, or has others.
    """
    with warnings.catch_warnings(record=True) as caught:
        # Keras 3.15 only warns of layers in a list that the file does not have; most
        # often it then raises of the same layers.
        warnings.filterwarnings("always", _SKIPPED, UserWarning)
        backbone.load_weights(path)
    for warning in caught:
        if str(warning.message).startswith(_SKIPPED):
            raise ValueError(str(warning.message))
