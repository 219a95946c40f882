"""Size and channels of an image file."""

from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.reading import open_image

_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by color type; 3 is a palette
_WIDTH_TAG, _HEIGHT_TAG = 256, 257  # of TIFF


def measure_image(data: bytes) -> dict[str, int]:
    """Measures an image that `prepare_image` accepts, from its header alone.

    Width and height are in px as stored, before any orientation is applied; of HEIC
    they are those of the upright image. Channels: 1 gray, 2 gray and alpha, 3 RGB or
    palette, 4 RGB and alpha, or CMYK. Empty for an image that TensorFlow can decode
    and Pillow cannot open.
    """
    try:
        kind, image = open_image(data)
    except Unreadable:
        return {}
    width, height = image.size
    if kind == "TIFF":  # Pillow has already applied the orientation to `size`
        width, height = (image.tag_v2[tag] for tag in (_WIDTH_TAG, _HEIGHT_TAG))
    channels = 3 if image.mode == "P" else len(image.getbands())
    if kind == "PNG":  # Pillow reports 16 bits of gray and alpha as RGBA
        channels = _PNG_CHANNELS.get(data[25], channels)
    return {"width_px": width, "height_px": height, "channels": channels}
