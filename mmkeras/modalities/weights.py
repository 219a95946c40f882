"""Weights files of backbones, in the formats that Keras reads."""

import warnings
from pathlib import Path

import keras


def load_all_weights(backbone: keras.Model, path: str | Path) -> None:
    """Loads a weights file into a backbone.

    Raises:
        ValueError, OSError, KeyError: The file cannot be read, or lacks weights of the
            backbone, or has others.
    """
    with warnings.catch_warnings():
        # Keras 3.15 only warns of layers in a list that the file does not have.
        warnings.filterwarnings("error", "Skipping nested container", UserWarning)
        try:
            backbone.load_weights(path)
        except UserWarning as warning:
            raise ValueError(str(warning)) from None
