"""Image files: checks, and transcoding to PNG where TensorFlow cannot decode them."""

import io
import struct

import numpy as np
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from mmkeras.config import ImageConfig
from mmkeras.modalities.file import Unreadable, translate_errors
from mmkeras.modalities.image.heif import AVIF, HEIC, heif_kind, open_heif

# Opened by class: Image.open warns of large images through global state.
_READERS = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "WebP": WebPImageFile,
}
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"GIF87a", "GIF"),
    (0, b"GIF89a", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (8, b"WEBP", "WebP"),
    (4, b"ftyp", "video"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"%PDF", "PDF"),
    (0, b"<", "SVG or HTML"),
)
EXIF, ORIENTATION_TAG = b"Exif\0\0", 0x0112
# The graph reads an Exif block of a JPEG only at these offsets (after the start marker,
# or after that and a JFIF block without thumbnail), and only its first bytes.
EXIF_OFFSETS, _EXIF_BYTES = (6, 24), 1000


def prepare_image(data: bytes, config: ImageConfig) -> bytes:
    """Returns an encoded image that the served graph decodes correctly.

    JPEG, PNG, GIF and 24- or 32-bit BMP are returned unchanged; only their headers are
    read. Formats that TensorFlow cannot decode, or decodes wrongly, become lossless
    PNG: WebP, TIFF, HEIC and AVIF (first frame or page, upright), other BMPs, PNG of
    1, 2 or 4 bits or with an orientation, GIF with transparency, without palette or
    with a first frame smaller than its canvas. A JPEG whose orientation is out of the
    graph's reach gets a second Exif block in front; its pixels stay unchanged.

    Raises:
        Unreadable: Empty, of another format, more than `config.max_megapixels`, or
            (if it was transcoded) truncated or unreadable.

    Example:
        png = prepare_image(Path("cow.webp").read_bytes(), ImageConfig())
    """
    kind, image = open_image(data)
    with translate_errors(kind):
        _check_pixels(*image.size, config)
        if kind == "JPEG":
            return _with_orientation_in_front(data, image)
        if _is_servable(kind, data, image):
            return data
        return _to_png(_upright_rgb(kind, data, image))


def open_image(data: bytes) -> tuple[str, ImageFile]:
    """Returns the format and Pillow's reader of an image, or raises Unreadable."""
    if not data:
        raise Unreadable("file is empty")
    if kind := heif_kind(data):
        with translate_errors(kind):
            return kind, open_heif(data, kind)
    kinds = (kind for at, magic, kind in _SIGNATURES if data.startswith(magic, at))
    kind = next(kinds, "format")
    if kind not in _READERS:
        supported = ", ".join((*_READERS, HEIC, AVIF))
        raise Unreadable(f"unsupported {kind} (supported: {supported})")
    with translate_errors(kind):
        return kind, _READERS[kind](io.BytesIO(data))


def _check_pixels(width, height, config):
    if width <= 0 or height <= 0:
        raise Unreadable(f"an image of {width} x {height} pixels")
    megapixels, limit = width * height / 1e6, config.max_megapixels
    if megapixels > limit:
        raise Unreadable(
            f"{megapixels:.0f} megapixels, more than image.max_megapixels={limit}"
        )


def _is_servable(kind: str, data: bytes, image: ImageFile) -> bool:
    """Whether TensorFlow decodes this PNG, GIF or BMP to the right pixels."""
    if kind == "PNG":  # below 8 bits TensorFlow fills in an alpha of 2^bits - 1
        return data[24] >= 8 and _orientation(_png_exif(data))[0] == 1
    if kind == "GIF":
        canvas = (0, 0, *struct.unpack_from("<HH", data, 6))
        is_opaque = image.mode == "P" and "transparency" not in image.info
        return is_opaque and image.tile[0][1] == canvas
    if kind == "BMP":
        header_bytes, *_, bits, compression = struct.unpack_from("<IiiHHI", data, 14)
        return header_bytes >= 40 and bits in (24, 32) and compression == 0
    return False


def _png_exif(data):
    offset = 8
    while offset + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, offset)
        if name == b"eXIf":
            return data[offset + 8 : offset + 8 + size]
        offset += size + 12
    return b""


def _orientation(exif: bytes) -> tuple[int, int]:
    """Returns an Exif block's orientation, 1 to 8, and the offset of its entry's end.

    (1, 0) without an orientation or if the block is damaged, as in image viewers.

    Source: TIFF 6.0 section 2 (layout) and Exif 2.3 tag 0x0112 (orientation).
    """
    order = "<" if exif[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for offset in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, offset)
            if tag == ORIENTATION_TAG:
                return (value if 1 <= value <= 8 else 1), offset + 12
    except struct.error:
        pass
    return 1, 0


def _with_orientation_in_front(data, image):
    start = data.find(EXIF) if "exif" in image.info else -1
    if start < 0:
        return data
    orientation, end = _orientation(data[start + len(EXIF) :])
    if orientation == 1 or (start in EXIF_OFFSETS and end <= _EXIF_BYTES):
        return data
    entry = struct.pack(">HHIHH", ORIENTATION_TAG, 3, 1, orientation, 0)
    exif = struct.pack(">6s2sHIH12sI", EXIF, b"MM", 42, 8, 1, entry, 0)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def decode_upright(data: bytes) -> Image.Image:
    """Decodes an image for display: upright, 8-bit RGB or RGBA; or Unreadable."""
    kind, image = open_image(data)
    with translate_errors(kind):
        return _upright_rgb(kind, data, image)


def _upright_rgb(kind: str, data: bytes, image: ImageFile) -> Image.Image:
    """Decodes to 8-bit RGB, or RGBA with transparency."""
    box = image.tile[0][1] if kind == "GIF" else None
    image.load()
    upright = ImageOps.exif_transpose(image)
    if upright.mode[0] in "IF":
        upright = _eight_bit_gray(kind, image, upright)
    has_level = upright.mode in ("1", "L") and "transparency" in upright.info
    if kind == "PNG" and has_level:
        # Pillow scales the pixels of 1, 2 and 4 bits, but not the transparent level.
        level = upright.info.pop("transparency") * 255 // (2 ** data[24] - 1)
        upright = upright.convert("L")
        upright.info["transparency"] = min(level, 255)
    rgb = upright.convert("RGBA" if upright.has_transparency_data or box else "RGB")
    if box:  # outside a frame smaller than its canvas all is transparent
        canvas = Image.new("RGBA", rgb.size)
        canvas.paste(rgb.crop(box), box[:2])
        return canvas
    return rgb


def _eight_bit_gray(kind, file, image):
    """Drops the low bits of 12- or 16-bit gray, as the graph does with PNG."""
    tags = file.tag_v2 if kind == "TIFF" else {258: (16,)}
    bits = tags.get(258, (1,))[0]  # BitsPerSample
    if image.mode == "F" or bits > 16 or (kind == "TIFF" and image.mode == "I"):
        raise Unreadable(
            f"unsupported {kind} of signed, float or {bits}-bit samples (supported: "
            "unsigned ones of up to 16 bits)"
        )
    gray = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    is_inverted = tags.get(262) == 0  # PhotometricInterpretation: white is zero
    return Image.fromarray(255 - gray if is_inverted else gray)


def _to_png(image: Image.Image) -> bytes:
    image.info.clear()  # no profile, no Exif: pixels only
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # a tenth larger, three times faster
    return buffer.getvalue()
