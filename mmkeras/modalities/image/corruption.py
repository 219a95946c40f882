"""Blurred images for the robustness curves of a report."""

import numpy as np
from PIL import Image, ImageFilter

from mmkeras.modalities.decoder import Decoder
from mmkeras.modalities.image.encoding import png_bytes


def blur(data: bytes, share: float, decoder: Decoder) -> bytes:
    """Returns the image at the model's size, blurred, as PNG, or raises Unreadable.

    `share` is the standard deviation of the blur, as a share of the image's side.
    """
    pixels = decoder(data)
    gaussian = ImageFilter.GaussianBlur(share * len(pixels))
    return png_bytes(np.asarray(Image.fromarray(pixels).filter(gaussian)))
