"""Blurred images for the robustness curves of a report."""

import numpy as np
from PIL import Image, ImageFilter

from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.image.encoding import png_bytes


def blur(data: bytes, share: float, decoders: MediaDecoders) -> bytes:
    """Returns the image at the model's size, blurred, as PNG, or raises Unreadable.

    `share` is the standard deviation of the blur, as a share of the image's side.
    """
    pixels = decoders.pixels(data)
    gaussian = ImageFilter.GaussianBlur(share * len(pixels))
    return png_bytes(np.asarray(Image.fromarray(pixels).filter(gaussian)))
