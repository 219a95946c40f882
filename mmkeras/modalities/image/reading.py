"""Pictures: as they came where the served graph decodes them, else PNG."""

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
from mmkeras.modalities.file import Unreadable, reading

# Opened by class: Image.open warns of large pictures through global state.
_PICTURES = {
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
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyp", "HEIC or video"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "ICO"),
    (0, b"%PDF", "PDF"),
    (0, b"<", "SVG or HTML"),
)
_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112
# Where the graph looks for the Exif block of a JPEG: behind the start marker, or
# behind that and a JFIF block; and how far into the block it looks.
_EXIF_OFFSETS, _EXIF_BYTES = (6, 24), 1000


def prepare_image(data: bytes, config: ImageConfig) -> bytes:
    """Returns an encoded picture that the served graph decodes rightly.

    JPEG, PNG, GIF and 24- or 32-bit BMP come back as they came, read no farther
    than their headers. What TensorFlow does not decode, or decodes wrongly, becomes
    PNG without loss: WebP and TIFF (first frame or page, upright), other BMPs, PNG
    of 1, 2 or 4 bits or with an orientation, GIF that is transparent, without
    palette or with a first frame smaller than its canvas. A JPEG whose orientation
    stands where the graph does not look gets it repeated in front; its pixels stay
    as they are.

    Raises:
        BadMedia: Empty, of another format, more than `config.max_megapixels`, or
            (where it was transcoded) truncated or unreadable.
    """
    kind = _picture_kind(data)
    with reading(kind):
        picture = _PICTURES[kind](io.BytesIO(data))
        _check_pixels(*picture.size, config)
        if kind == "JPEG":
            return _with_orientation_in_front(data, picture)
        if _is_servable(kind, data, picture):
            return data
        return _to_png(_upright_rgb(kind, data, picture))


def _picture_kind(data):
    if not data:
        raise Unreadable("file is empty")
    kinds = (kind for at, magic, kind in _SIGNATURES if data.startswith(magic, at))
    kind = next(kinds, "format")
    if kind not in _PICTURES:
        raise Unreadable(f"unsupported {kind} (supported: {', '.join(_PICTURES)})")
    return kind


def _check_pixels(width, height, config):
    if width <= 0 or height <= 0:
        raise Unreadable(f"a picture of {width} x {height} pixels")
    if width * height > config.max_megapixels * 1e6:
        raise Unreadable(
            f"{width * height / 1e6:.0f} megapixels, more than "
            f"image.max_megapixels={config.max_megapixels}"
        )


def _is_servable(kind: str, data: bytes, picture: ImageFile) -> bool:
    """Whether TensorFlow decodes this PNG, GIF or BMP to the right pixels."""
    if kind == "PNG":  # below 8 bits TensorFlow fills in an alpha of 2^bits - 1
        return data[24] >= 8 and _orientation(_png_exif(data))[0] == 1
    if kind == "GIF":
        whole = picture.tile[0][1] == (0, 0, *struct.unpack_from("<HH", data, 6))
        return picture.mode == "P" and whole and "transparency" not in picture.info
    if kind == "BMP":
        header_bytes, *_, bits, compression = struct.unpack_from("<IiiHHI", data, 14)
        return header_bytes >= 40 and bits in (24, 32) and compression == 0
    return False


def _png_exif(data):
    at = 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        if name == b"eXIf":
            return data[at + 8 : at + 8 + size]
        at += size + 12
    return b""


def _orientation(exif: bytes) -> tuple[int, int]:
    """Returns an Exif block's orientation, 1 to 8, and where its entry ends.

    (1, 0) where there is none, or when the block is damaged.

    Source: TIFF 6.0 section 2 (layout) and Exif 2.3 tag 0x0112 (orientation).
    """
    order = "<" if exif[:2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, at)
            if tag == _ORIENTATION:
                return (value if 1 <= value <= 8 else 1), at + 12
    except struct.error:
        pass  # a block cut short has no orientation, as any viewer takes it
    return 1, 0


def _with_orientation_in_front(data, picture):
    start = data.find(_EXIF) if "exif" in picture.info else -1
    if start < 0:
        return data
    orientation, end = _orientation(data[start + len(_EXIF) :])
    if orientation == 1 or (start in _EXIF_OFFSETS and end <= _EXIF_BYTES):
        return data
    entry = struct.pack(">HHIHH", _ORIENTATION, 3, 1, orientation, 0)
    exif = struct.pack(">6s2sHIH12sI", _EXIF, b"MM", 42, 8, 1, entry, 0)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]


def upright(data: bytes) -> Image.Image:
    """Decodes a picture for a person to see: upright, 8-bit RGB or RGBA.

    Raises:
        BadMedia: It cannot be read.
    """
    kind = _picture_kind(data)
    with reading(kind):
        return _upright_rgb(kind, data, _PICTURES[kind](io.BytesIO(data)))


def _upright_rgb(kind: str, data: bytes, picture: ImageFile) -> Image.Image:
    """Decodes to 8-bit RGB, or RGBA where something is transparent."""
    box = picture.tile[0][1] if kind == "GIF" else None
    picture.load()
    image = ImageOps.exif_transpose(picture)
    if image.mode[0] in "IF":
        image = _eight_bit_gray(kind, picture, image)
    if kind == "PNG" and image.mode in ("1", "L") and "transparency" in image.info:
        # Pillow scales the pixels of 1, 2 and 4 bits, and not the level that is clear.
        level = image.info.pop("transparency") * 255 // (2 ** data[24] - 1)
        image = image.convert("L")
        image.info["transparency"] = min(level, 255)
    rgb = image.convert("RGBA" if image.has_transparency_data or box else "RGB")
    if box:  # around a frame smaller than its canvas there is nothing
        canvas = Image.new("RGBA", rgb.size)
        canvas.paste(rgb.crop(box), box[:2])
        return canvas
    return rgb


def _eight_bit_gray(kind, picture, image):
    """Drops the low bits of 12- or 16-bit gray, as the graph does with PNG."""
    tags = picture.tag_v2 if kind == "TIFF" else {258: (16,)}
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
