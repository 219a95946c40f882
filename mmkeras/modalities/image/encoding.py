"""PNG encoders for reports and explanations."""

import io

import numpy as np
from PIL import Image

from mmkeras.modalities.image.reading import decode_upright

_THUMBNAIL_PX = 192


def png_bytes(pixels: np.ndarray) -> bytes:
    """Encodes (H, W, 3) uint8, or (H, W, 4) with alpha, without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def make_thumbnail(data: bytes) -> bytes:
    """Returns a small upright PNG of an encoded image."""
    image = decode_upright(data)
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
