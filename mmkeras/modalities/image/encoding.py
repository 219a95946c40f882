"""PNG encoders for reports and explanations."""

import io

import numpy as np
from PIL import Image

from mmkeras.modalities.decoder import Decoder
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.reading import decode_upright

_THUMBNAIL_PX = 192


def png_bytes(pixels: np.ndarray) -> bytes:
    """Encodes (H, W, 3) uint8, or (H, W, 4) with alpha, without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def upright_image(data: bytes, decoder: Decoder) -> Image.Image:
    """Decodes an image for display; by the graph if Pillow cannot open it."""
    try:
        return decode_upright(data)
    except Unreadable:
        return Image.fromarray(decoder(data))


def make_thumbnail(data: bytes, decoder: Decoder) -> bytes:
    """Returns a small upright PNG of an encoded image."""
    image = upright_image(data, decoder)
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
