"""Encoded images, audio and vectors, damage to them, and traced graph functions."""

import functools
import io
import struct
import zlib

import numpy as np
import soundfile
import tensorflow as tf
from hypothesis import strategies as st
from PIL import Image

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.reading import prepare_audio

RATE_HZ = 16_000
PLAIN_WAVS = [("WAV", s) for s in "PCM_U8 PCM_16 PCM_24 PCM_32".split()]
PLAIN_WAVS += [("WAV", s) for s in "FLOAT DOUBLE ULAW ALAW".split()]
PLAIN_WAVS += [("WAVEX", "PCM_16"), ("WAVEX", "FLOAT")]
TRANSCODED_AUDIO = {  # (format, subtype): subtype of the WAV, and largest difference
    ("FLAC", "PCM_16"): ("PCM_16", 0),
    ("FLAC", "PCM_24"): ("PCM_24", 0),
    ("AIFF", "PCM_S8"): ("PCM_16", 0),
    ("AIFF", "PCM_24"): ("PCM_24", 0),
    ("CAF", "ALAC_16"): ("PCM_16", 0),
    ("AU", "FLOAT"): ("FLOAT", 0),
    ("W64", "PCM_16"): ("PCM_16", 0),
    ("RF64", "PCM_32"): ("FLOAT", 1e-7),
    ("WAV", "IMA_ADPCM"): ("FLOAT", 0),
    ("WAV", "MS_ADPCM"): ("FLOAT", 0),
    ("OGG", "VORBIS"): ("FLOAT", 0),
    ("MP3", "MPEG_LAYER_III"): ("FLOAT", 1e-6),
}
AUDIO_FORMATS = [*PLAIN_WAVS, *TRANSCODED_AUDIO, ("OGG", "OPUS")]
IMAGE_MODES = {
    "PNG": ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("P",),
    "BMP": ("RGB", "P", "1"),
    "TIFF": ("RGB", "LA", "CMYK", "1"),
    "WEBP": ("RGB", "RGBA"),
}
IMAGE_FORMATS = [(kind, mode) for kind in IMAGE_MODES for mode in IMAGE_MODES[kind]]
# The offsets and new values of damaged bytes. Squared offsets hit the header most.
CUTS = st.none() | st.floats(0, 1)
FLIPS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4)


@functools.cache
def traced(function, *config):
    """Returns the graph of a function of one string; conftest.py clears the cache."""
    string = [tf.TensorSpec([], tf.string)]
    return tf.function(lambda d: function(d, *config), string, autograph=False)


def encode_image(image, kind="PNG", mode=None, **options) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def png_chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def encode_png(width, height, depth, color, rows, extra=b"", interlaced=0) -> bytes:
    """Writes PNG of any depth and color type; Pillow writes only some."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", body)
    return b"\x89PNG\r\n\x1a\n" + chunks + png_chunk(b"IEND", b"")


def encode_audio(samples, kind="WAV", subtype=None, rate_hz=RATE_HZ, **options):
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, subtype, format=kind, **options)
    return file.getvalue()


def encode_vector(array, version=(1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), version=version)
    return file.getvalue()


def damage(data: bytes, cut: float | None, flips: list[tuple[float, int]]) -> bytes:
    """Returns the bytes up to `cut`, with some of them replaced."""
    result = bytearray(data if cut is None else data[: int(cut * len(data))])
    for offset, value in flips if result else ():
        result[int(offset**2 * (len(result) - 1))] = value
    return bytes(result)


def decode_audio(data, clip_s=60.0):
    """The samples of the file that `prepare_audio` makes of an encoded one."""
    wav = prepare_audio(data, AudioConfig(clip_s=clip_s))
    return soundfile.read(io.BytesIO(wav), dtype="float32")[0]
