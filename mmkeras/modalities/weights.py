"""Weights files of backbones, in the formats that Keras reads."""

import warnings
from pathlib import Path

import keras

from mmkeras.errors import UserError, one_line


def load_weights_file(backbone: keras.Model, path: str | Path, expected: str) -> None:
    """Loads a weights file into a backbone.

    Raises:
        UserError: The file is unreadable, or does not fit `expected`, the description
            of the backbone.
    """
    with warnings.catch_warnings():
        # Keras 3.15 only warns of layers in a list that are missing from the file.
        warnings.filterwarnings("error", "Skipping nested container", UserWarning)
        try:
            backbone.load_weights(path)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            reason = one_line(error, 200)
            raise UserError(
                f"The weights in '{path}' do not fit {expected} ({reason})."
            ) from error
