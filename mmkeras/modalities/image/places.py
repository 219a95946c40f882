"""Tokens of image encoders as places of the image."""

from math import isqrt

import numpy as np


def arrange_places(encoder: str, weights: np.ndarray) -> np.ndarray | None:
    """Arranges weights (K,) of an encoder's tokens as places, (rows, columns).

    Tokens are a square map row by row, which a class token may precede; those of
    `cnn_lstm` are rows of the image. None if they are neither.
    """
    if encoder == "cnn_lstm":
        return weights[:, None]
    for first in (0, 1):
        side = isqrt(len(weights) - first)
        if side > 1 and side * side == len(weights) - first:
            return weights[first:].reshape(side, side)
    return None
