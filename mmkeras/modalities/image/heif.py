"""HEIC and AVIF images, which pillow-heif and Pillow decode."""

import io
import struct
from importlib.util import find_spec

import PIL
from PIL.ImageFile import ImageFile

from mmkeras.environment.extras import missing_extra
from mmkeras.modalities.file import Unreadable

HEIC, AVIF = "HEIC", "AVIF"
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = set(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())


def heif_kind(data: bytes) -> str:
    """Returns HEIC, AVIF, or "" for another file, such as a video.

    Source: ISO/IEC 23008-12, brands of the "ftyp" box.
    """
    if data[4:8] != b"ftyp":
        return ""
    (size,) = struct.unpack_from(">I", data)
    brands = {data[i : i + 4] for i in (8, *range(16, min(size, 256, len(data)), 4))}
    if brands & _AVIF_BRANDS:
        return AVIF
    return HEIC if brands & _HEIC_BRANDS else ""


def open_heif(data: bytes, kind: str) -> ImageFile:
    """Opens an image by its header.

    Its orientation is the one in its Exif block, where Pillow looks for it.

    Raises:
        Unreadable: The decoder is not installed.
    """
    if kind == AVIF:
        return _open_avif(data)
    if find_spec("pillow_heif") is None:
        raise Unreadable(str(missing_extra("pillow_heif", kind)))
    from pillow_heif import as_plugin

    return as_plugin.HeifImageFile(io.BytesIO(data))


def can_open_avif() -> bool:
    """Whether this Pillow decodes AVIF."""
    try:
        from PIL import AvifImagePlugin
    except ImportError:
        return False
    return AvifImagePlugin.SUPPORTED


def _open_avif(data):
    if not can_open_avif():
        raise Unreadable(
            f"AVIF needs Pillow 11.3 or later, and this is {PIL.__version__}: "
            "pip install 'pillow>=11.3'"
        )
    from PIL import AvifImagePlugin

    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))
