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
from mmkeras.modalities.image import headers
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
_TURNS = (  # of the Exif orientations 2 to 8
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)


def prepare_image(data: bytes, config: ImageConfig) -> bytes:
    """Returns an encoded image that the served graph decodes correctly.

    JPEG, PNG, opaque GIF and 24- or 32-bit BMP are returned unchanged; only their
    headers are read. Formats that TensorFlow cannot decode, or decodes wrongly, become
    lossless PNG: WebP, TIFF, HEIC and AVIF (first frame or page, upright), other BMPs,
    GIF with transparency, without palette or with a first frame smaller than its
    canvas.

    Raises:
        Unreadable: Empty, of another format, more than `config.max_megapixels`, a JPEG
            that is cut in its header, or (if transcoded) truncated or unreadable.

    Example:
        png = prepare_image(Path("cow.webp").read_bytes(), ImageConfig())
    """
    kind = _format(data)
    with translate_errors(kind):
        if _is_servable(kind, data):
            _check_pixels(*_header_size(kind, data), config)
            return data
        kind, image = open_image(data)
        _check_pixels(*image.size, config)
        return _to_png(_upright_rgb(kind, data, image))


def _format(data):
    if not data:
        raise Unreadable("file is empty")
    if kind := heif_kind(data):
        return kind
    kinds = (kind for at, magic, kind in _SIGNATURES if data.startswith(magic, at))
    kind = next(kinds, "format")
    if kind not in _READERS:
        supported = ", ".join((*_READERS, HEIC, AVIF))
        raise Unreadable(f"unsupported {kind} (supported: {supported})")
    return kind


def is_image(data: bytes) -> bool:
    """Whether a file has the signature of a supported format."""
    try:
        return bool(_format(data))
    except Unreadable:
        return False


def open_image(data: bytes) -> tuple[str, ImageFile]:
    """Returns the format and Pillow's reader of an image, or raises Unreadable."""
    kind = _format(data)
    with translate_errors(kind):
        if kind in (HEIC, AVIF):
            return kind, open_heif(data, kind)
        return kind, _READERS[kind](io.BytesIO(data))


def _header_size(kind, data):
    if kind == "JPEG":
        _, (height, width, components) = headers.jpeg_header(data)
        if not components:  # libjpeg would print a message
            raise Unreadable("truncated or damaged JPEG: its header is incomplete")
        return width, height
    form, offset = {"PNG": (">II", 16), "GIF": ("<HH", 6), "BMP": ("<ii", 18)}[kind]
    width, height = struct.unpack_from(form, data, offset)
    return width, abs(height)


def _check_pixels(width, height, config):
    if width <= 0 or height <= 0:
        raise Unreadable(f"an image of {width} x {height} pixels")
    megapixels, limit = width * height / 1e6, config.max_megapixels
    if megapixels > limit:
        raise Unreadable(
            f"{megapixels:.0f} megapixels, more than image.max_megapixels={limit}"
        )


def _is_servable(kind: str, data: bytes) -> bool:
    """Whether TensorFlow decodes this image to the right pixels."""
    if kind == "GIF":
        return headers.is_opaque_gif(data)
    if kind == "BMP":
        return headers.is_true_color_bmp(data)
    return kind in ("JPEG", "PNG")


def decode_upright(data: bytes) -> Image.Image:
    """Decodes an image for display: upright, 8-bit RGB or RGBA; or Unreadable."""
    kind, image = open_image(data)
    with translate_errors(kind):
        return _upright_rgb(kind, data, image)


def _upright_rgb(kind: str, data: bytes, image: ImageFile) -> Image.Image:
    """Decodes to 8-bit RGB, or RGBA with transparency."""
    box = image.tile[0][1] if kind == "GIF" else None
    image.load()
    upright = _upright(kind, data, image)
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


def _upright(kind, data, image):
    """Applies the orientation that the graph applies, and not that of XMP."""
    if kind not in ("JPEG", "PNG"):
        return ImageOps.exif_transpose(image)
    block = headers.png_exif(data) if kind == "PNG" else headers.jpeg_header(data)[0]
    orientation = headers.exif_orientation(block or b"")
    return image.transpose(_TURNS[orientation - 2]) if orientation > 1 else image


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
