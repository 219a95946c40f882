"""Images with one region hidden at a time, and the effects drawn over them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmkeras.modalities import heatmap
from mmkeras.modalities.decoder import Decoder
from mmkeras.modalities.image.encoding import png_bytes, upright_image

GRID = (8, 8)
_IMAGE_PX, _SMALL_PX = 320, 128


def hide_regions(pixels: np.ndarray, masks: np.ndarray) -> Iterator[bytes]:
    """Yields the image as PNG with one window at a time in the colour of its edge.

    That is the median along the four sides, usually the background. `pixels` are
    (S, S, 3) uint8, `masks` (W, rows, columns) bool.
    """
    sides = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    fill = np.median(np.concatenate(sides), axis=0).astype(np.uint8)
    size = len(pixels)
    rows, columns = (np.arange(size) * cells // size for cells in masks.shape[1:])
    for mask in masks:
        hidden = mask[rows[:, None], columns][..., None]  # (S, S, 1)
        yield png_bytes(np.where(hidden, fill, pixels))


def draw_effects(
    data: bytes, effects: Sequence[Sequence[float]], decoder: Decoder
) -> dict[str, Any]:
    """Returns the image upright, and with effects (rows, columns) in colour."""
    image, effects = _resize(data, decoder), np.array(effects)
    return {
        "original": png_bytes(image),
        "heatmap": heatmap.overlay(image, effects),
        "scale": heatmap.scale_of(effects),
    }


def draw_weights(data: bytes, weights: np.ndarray, scale: float, decoder) -> bytes:
    """Draws weights (rows, columns) over the image, small and upright, as PNG."""
    return heatmap.overlay(_resize(data, decoder, _SMALL_PX), weights, scale)


def _resize(data, decoder, size_px=_IMAGE_PX) -> np.ndarray:
    """Returns the image upright and on white, (H, W, 3) uint8."""
    image = upright_image(data, decoder).convert("RGBA")
    ratio = size_px / max(image.size)
    size = [max(1, round(side * ratio)) for side in image.size]
    image = image.resize(size, Image.Resampling.LANCZOS)
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))
