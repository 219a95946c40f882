"""Heatmaps: effects of the parts of an image or a spectrogram, drawn over it."""

import numpy as np
from PIL import Image

from mmkeras.modalities.image.encoding import png_bytes

MIN_SCALE = 0.02  # weaker effects are drawn pale, even if they are the strongest
# Orange and blue, which colour-blind readers can distinguish.
POSITIVE, NEGATIVE = (217, 95, 2), (31, 104, 196)
_MAX_ALPHA = 0.8  # opacity of the colour at the strongest effect
_CONTRAST = 0.45  # remaining contrast of the image below


def scale_of(effects: np.ndarray | list[float]) -> float:
    """Returns the effect that is drawn in full colour."""
    return max(float(np.abs(effects).max(initial=0)), MIN_SCALE)


def overlay(
    image: np.ndarray, effects: np.ndarray, scale: float | None = None
) -> bytes:
    """Draws effects over an image (H, W, 3) uint8 in pale grays, as PNG.

    `effects` are (rows, columns), positive where a part increases the probability. One
    of `scale`, by default `scale_of(effects)`, has the full colour.
    """
    height, width = image.shape[:2]
    share = Image.fromarray((effects / (scale or scale_of(effects))).astype(np.float32))
    share = np.asarray(share.resize((width, height), Image.Resampling.BICUBIC))
    lowest = -1 if (effects < 0).any() else 0  # interpolation falls below the lowest
    share = np.clip(share, lowest, 1)[..., None]  # (H, W, 1)
    gray = image @ np.array([0.299, 0.587, 0.114])
    gray = 255 - _CONTRAST * (255 - gray[..., None])
    colour = np.where(share > 0, POSITIVE, NEGATIVE)
    alpha = _MAX_ALPHA * np.abs(share)
    return png_bytes(np.round(gray * (1 - alpha) + colour * alpha).astype(np.uint8))
