"""PNG files of images that Python code has in memory; needs no TensorFlow."""

import io
from typing import TYPE_CHECKING

from mmkeras.modalities.file import Unreadable

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# Modes of Pillow's images that PNG has; others are converted to RGB.
_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


def encode_png(image: "Image.Image | np.ndarray") -> bytes:
    """Encodes an image of Pillow, or uint8 pixels, without loss and upright.

    Pixels are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4). Of 32-bit gray 16 bits are
    kept, those of a 16-bit PNG as older versions of Pillow open it.

    Raises:
        Unreadable: It cannot be loaded, or the pixels have another shape.
    """
    from PIL import Image, ImageOps

    file = io.BytesIO()
    try:
        if not isinstance(image, Image.Image):
            is_gray = image.ndim == 3 and image.shape[2] == 1
            image = Image.fromarray(image[:, :, 0] if is_gray else image)
        image = ImageOps.exif_transpose(image)
        if image.mode not in _MODES:
            image = image.convert("I;16" if image.mode == "I" else "RGB")
        image.save(file, "PNG", compress_level=1)
    # Of a file that is read only now, or of pixels of another shape.
    except (OSError, ValueError, SyntaxError, TypeError) as error:
        raise Unreadable(f"is an image that cannot be read: {error}") from None
    return file.getvalue()
