"""Media files -> bytes that the served graph can decode. Imports no TensorFlow."""

import io
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from numpy.lib import format as npy
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from mmkeras.config import AudioConfig, ImageConfig

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

_SOUNDS = "WAV WAVEX FLAC OGG MP3 AIFF AU W64 RF64 CAF".split()
_SOUND_NAMES = "WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF, AU, W64, RF64, CAF"
# What the graph parses: format code (1 PCM, 3 IEEE float) and bits.
_PLAIN_WAVES = {(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)}
_EXTENSIBLE = 0xFFFE
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_MAX_CHANNELS = 64  # more is a damaged header: 7th-order ambisonics has 64
_STREAMED = 0x7FFF0000  # from here on, sizes that writers to a pipe leave behind
# libsndfile's log of a chunk longer than the file. The size of the whole file is left
# out where a chunk tells more: many writers get it wrong by its own 8 bytes.
_SHOULD_BE = re.compile(r"^ *(?!RIFF|FORM)[^:\n]*: (\d+) \(should be (\d+)\)", re.M)
_BLOCK = 65_536  # frames decoded at once
_MARGIN_S = 0.5  # behind the clip, for the resampling at its end
# A sound is read to its end, but no farther than this: 1.7 hours of 44.1 kHz mono,
# three seconds of work. Silence in FLAC packs years into a megabyte.
_CHECKED_SAMPLES = 2**28
_DEPTHS = {"PCM_S8": 16, "PCM_U8": 16, "PCM_16": 16, "ALAC_16": 16}
_DEPTHS |= {"PCM_24": 24, "ALAC_20": 24, "ALAC_24": 24}  # all others: 32-bit float
_READ_AS = {16: "int16", 24: "int32", 32: "float32"}


class BadMedia(ValueError):
    """A file that cannot be used; the message is a short reason, without its name."""


@contextmanager
def _reading(kind: str) -> Iterator[None]:
    try:
        yield
    except BadMedia:
        raise
    # A decoder meets broken data with any exception there is, from OSError to
    # ZeroDivisionError; each of them says that this file cannot be read.
    except Exception as error:
        raise BadMedia(f"truncated or unreadable {kind}: {error}") from error


def read_file(path: Path, max_mb: int) -> bytes:
    """Reads a whole file of at most `max_mb` megabytes (10^6 bytes).

    Raises:
        BadMedia: No such file, a folder, not allowed, empty or too large.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BadMedia("is a folder, not a file")
        if not stat.S_ISREG(status.st_mode):
            raise BadMedia("is a device or a pipe, not a file")
        if status.st_size > max_mb * 1e6:
            size_mb = status.st_size / 1e6
            raise BadMedia(f"{size_mb:.1f} MB, more than table.max_file_mb={max_mb}")
        data = path.read_bytes()
    except BadMedia:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise BadMedia("file not found") from None
    except PermissionError:
        raise BadMedia("no permission to read the file") from None
    except OSError as error:
        raise BadMedia(f"cannot be read: {error.strerror}") from error
    except ValueError as error:  # a NUL, or what the file system cannot encode
        raise BadMedia(f"not a possible path: {error}") from error
    if not data:
        raise BadMedia("file is empty")
    return data


# Pictures ---------------------------------------------------------------------


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
    with _reading(kind):
        picture = _PICTURES[kind](io.BytesIO(data))
        _check_pixels(*picture.size, config)
        if kind == "JPEG":
            return _with_orientation_in_front(data, picture)
        if _is_servable(kind, data, picture):
            return data
        return _to_png(_upright_rgb(kind, data, picture))


def _picture_kind(data):
    if not data:
        raise BadMedia("file is empty")
    kinds = (kind for at, magic, kind in _SIGNATURES if data.startswith(magic, at))
    kind = next(kinds, "format")
    if kind not in _PICTURES:
        raise BadMedia(f"unsupported {kind} (supported: {', '.join(_PICTURES)})")
    return kind


def _check_pixels(width, height, config):
    if width <= 0 or height <= 0:
        raise BadMedia(f"a picture of {width} x {height} pixels")
    if width * height > config.max_megapixels * 1e6:
        raise BadMedia(
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
        raise BadMedia(
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


# Sounds -----------------------------------------------------------------------


def prepare_audio(data: bytes, config: AudioConfig) -> bytes:
    """Returns a WAV file that the served graph decodes.

    PCM of 8, 16, 24 or 32 bits and IEEE floats, plain or extensible, come back as
    they came; only a data size that a streaming writer left open, or that ends
    inside a frame, is filled in. Every other sound is checked to its end and its
    first `config.clip_s` seconds (and a margin) become a WAV of the same rate and
    channels: 16-bit where it was 16-bit PCM or less, 24-bit where 24, else float.

    Raises:
        BadMedia: Empty, of another format, truncated, unreadable, without samples,
            or with samples that are not finite.
    """
    if not data:
        raise BadMedia("file is empty")
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        with _reading("WAV"):
            wave = _plain_wave(data)
        if wave is not None:
            return wave
    return _transcode_sound(data, config)


def _plain_wave(data):
    """Returns the file where it is of a kind that the graph parses, else None."""
    chunks = _wave_chunks(data)
    at, size = chunks.get(b"fmt ", (0, 0))
    if size < 16 or b"data" not in chunks:
        raise BadMedia("truncated or unreadable WAV: no format or no data chunk")
    code, channels, rate_hz, _, frame, bits = struct.unpack_from("<HHIIHH", data, at)
    if code == _EXTENSIBLE and size >= 40 and data[at + 26 : at + 40] == _GUID_TAIL:
        (code,) = struct.unpack_from("<H", data, at + 24)
    if (code, bits) not in _PLAIN_WAVES:
        return None
    _check_sound(channels, rate_hz)
    if frame != channels * bits // 8:
        raise BadMedia(f"unreadable WAV: {channels} channels of {bits} bits in {frame}")
    at, size = chunks[b"data"]
    real = _real_data_size(data, at, size) // frame * frame
    if not real:
        raise BadMedia("no sound in it")
    if code == 3:
        _check_finite(np.frombuffer(data, f"<f{bits // 8}", real * 8 // bits, at))
    return data if real == size else _with_data_size(data, at, real)


def _wave_chunks(data):
    """Returns {name: (where its content begins, bytes)} of each name's first."""
    chunks, at = {}, 12
    while at + 8 <= len(data) and not {b"fmt ", b"data"} <= chunks.keys():
        name, size = struct.unpack_from("<4sI", data, at)
        chunks.setdefault(name, (at + 8, size))
        at += 8 + size + size % 2  # padded to an even length
    return chunks


def _real_data_size(data, at, size):
    there = len(data) - at
    is_open = size == 0 and not data[at : at + 4].strip().isalnum()  # next chunk's name
    if size >= _STREAMED or is_open:
        return there
    if size > there:
        raise BadMedia(f"truncated WAV: {there} bytes of sound of {size} announced")
    return size


def _with_data_size(data, at, size):
    padding = size % 2
    head = data[:4] + struct.pack("<I", at + size + padding - 8) + data[8 : at - 4]
    size_bytes = struct.pack("<I", size)
    return head + size_bytes + data[at : at + size] + b"\0" * padding


def _check_sound(channels, rate_hz):
    if not 1 <= channels <= _MAX_CHANNELS:
        raise BadMedia(f"{channels} channels (supported: 1 to {_MAX_CHANNELS})")
    if not 1_000 <= rate_hz <= 768_000:
        raise BadMedia(f"sample rate {rate_hz} Hz (supported: 1000 to 768000)")


def _check_finite(samples):
    with np.errstate(over="ignore"):  # too large for 32 bits is infinite to the graph
        finite = np.isfinite(samples.astype(np.float32, copy=False)).all()
    if not finite:
        raise BadMedia("samples that are not finite numbers")


def _transcode_sound(data, config):
    try:
        with soundfile.SoundFile(_Stream(data)) as sound:
            kind = sound.format
            if kind not in _SOUNDS:
                raise BadMedia(f"unsupported {kind} (supported: {_SOUND_NAMES})")
            _check_sound(sound.channels, sound.samplerate)
            _check_announced(data, sound)
            depth = _DEPTHS.get(sound.subtype, 32)
            samples = _read_samples(data, sound, depth, config)
            return _wave_bytes(samples, depth, sound.samplerate)
    except soundfile.LibsndfileError as error:
        if error.code == 1:  # SF_ERR_UNRECOGNISED_FORMAT
            raise BadMedia(f"unsupported format (supported: {_SOUND_NAMES})") from None
        reason = error.error_string.removeprefix("Error : ")
        raise BadMedia(f"truncated or unreadable sound: {reason}") from error


class _Stream(io.BytesIO):
    """Bytes for libsndfile, which seeks before the start of damaged files.

    BytesIO would raise, and cffi print that with its traceback.
    """

    def seek(self, offset, whence=io.SEEK_SET):
        return super().seek(max(offset, 0) if whence == io.SEEK_SET else offset, whence)


def _check_announced(data, sound):
    """Refuses a file shorter than its header says; libsndfile would read the rest."""
    if sound.frames > 2**62:
        raise BadMedia(f"{sound.format} that does not say its length; re-encode it")
    for announced, there in _SHOULD_BE.findall(sound.extra_info):
        if int(there) < int(announced) < _STREAMED:
            raise BadMedia(f"truncated {sound.format}: {there} bytes of {announced}")
    if sound.format == "OGG" and not _ends_with_last_page(data):
        raise BadMedia("truncated Ogg: it does not end with a last page")


def _ends_with_last_page(data):
    """Source: RFC 3533 section 6, the Ogg page header."""
    at = data.rfind(b"OggS")
    if at < 0 or at + 27 > len(data):
        return False
    is_last, segments = data[at + 5] & 4, data[at + 26]
    sizes = data[at + 27 : at + 27 + segments]
    return is_last and at + 27 + segments + sum(sizes) <= len(data)


def _read_samples(data, sound, depth, config):
    """Reads to the end in blocks; returns (frames, channels) of the clip."""
    wanted = int((config.clip_s + _MARGIN_S) * sound.samplerate) + 1
    kept, frames = [], 0
    while frames * sound.channels < _CHECKED_SAMPLES:
        block = sound.read(_BLOCK, dtype=_READ_AS[depth], always_2d=True)
        if not len(block):
            break
        if depth == 32:
            _check_finite(block)
        if frames < wanted:
            kept.append(block[: wanted - frames])
        frames += len(block)
    else:
        return np.concatenate(kept)  # long enough: not read to its end
    if frames < sound.frames and _knows_frames(data, sound):
        raise BadMedia(
            f"truncated {sound.format}: {frames} samples of {sound.frames} announced"
        )
    if not frames:
        raise BadMedia("no sound in it")
    return np.concatenate(kept)


def _knows_frames(data, sound):
    """Whether a length is written in the file; that of other MP3s is a guess."""
    if sound.format != "MP3":
        return True
    start = 0
    if data.startswith(b"ID3") and len(data) >= 10:  # size in 4 times 7 bits
        a, b, c, d = data[6:10]
        start = 10 + (a << 21 | b << 14 | c << 7 | d)
    head = data[start : start + 2048]
    return b"Xing" in head or b"Info" in head


def _wave_bytes(samples, depth, rate_hz):
    # Not by soundfile: it writes the time of day into WAV files of floats.
    channels = samples.shape[1]
    if depth == 24:  # libsndfile gives the three bytes above an empty one
        raw = samples.astype("<i4", copy=False).reshape(-1, 1).view(np.uint8)
        body = raw[:, 1:].tobytes()
    else:
        body = samples.astype(samples.dtype.newbyteorder("<"), copy=False).tobytes()
    frame = channels * depth // 8
    code = 3 if depth == 32 else 1
    fmt = struct.pack("<HHIIHH", code, channels, rate_hz, rate_hz * frame, frame, depth)
    body = b"data" + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    content = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + body
    return b"RIFF" + struct.pack("<I", len(content)) + content


# Vectors ----------------------------------------------------------------------


def prepare_vector(data: bytes) -> bytes:
    """Returns a .npy file of version 1.0 with one little-endian float32 vector.

    Takes any .npy of floats or integers, of shape (D,) or (1, D).

    Raises:
        BadMedia: Empty, no such file, truncated, of another shape or type, or with
            numbers that are not finite.
    """
    shape, dtype, start = _npy_header(data)
    vector = np.frombuffer(data, dtype, shape[-1], start)
    with np.errstate(over="ignore"):
        vector = vector.astype("<f4")
    if not np.isfinite(vector).all():
        raise BadMedia("vector with numbers that are not finite")
    buffer = io.BytesIO()
    npy.write_array(buffer, vector, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def vector_width(data: bytes) -> int:
    """Returns how many numbers a .npy file of one vector holds.

    Raises:
        BadMedia: As `prepare_vector`, but the numbers are not looked at.
    """
    return _npy_header(data)[0][-1]


def _npy_header(data):
    if not data:
        raise BadMedia("file is empty")
    stream = io.BytesIO(data)
    with _reading(".npy file"):
        version = npy.read_magic(stream)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in readers:
            raise BadMedia(f"unsupported .npy version {version} (supported: 1.0, 2.0)")
        shape, _, dtype = readers[version](stream)
    if dtype.kind not in "fiu":
        raise BadMedia(f".npy of type {dtype} (supported: floats and integers)")
    if len(shape) not in (1, 2) or shape[-1] < 1 or shape[:-1] not in ((), (1,)):
        raise BadMedia(f".npy of shape {shape} (supported: one vector, (D,) or (1, D))")
    there = len(data) - stream.tell()
    if shape[-1] * dtype.itemsize > there:
        raise BadMedia(f"truncated .npy: {there} bytes of a vector of shape {shape}")
    return shape, dtype, stream.tell()
