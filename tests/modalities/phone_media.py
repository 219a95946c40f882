"""Files of phones and browsers: HEIC and AVIF images, M4A, AAC and WebM audio."""

import io
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmkeras.modalities.image.heif import HEIC

ORIENTATION = 0x0112
Y, X = np.mgrid[0:48, 0:64]
SMOOTH = np.stack([Y * 5, X * 3, (X + Y) * 2], -1).astype(np.uint8)
RATE_HZ, SECONDS = 48_000, 3
TIME = np.arange(RATE_HZ * SECONDS) / RATE_HZ
STEREO = np.stack([0.5 * np.sin(2 * np.pi * 440 * TIME), 0.3 * np.sin(7000 * TIME)])


def encode_heif(kind, orientation=1):
    """Returns a smooth image; the first pixels are dark."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[ORIENTATION] = orientation
    image = Image.fromarray(SMOOTH)
    if kind == HEIC:
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.from_pillow(image).save(file, quality=100, exif=exif.tobytes())
    else:
        plugin = pytest.importorskip("PIL.AvifImagePlugin")
        if not plugin.SUPPORTED:
            pytest.skip("this Pillow has no AVIF")
        image.save(file, "AVIF", quality=100, exif=exif)
    return file.getvalue()


def encode_av(codec, container, samples=STEREO, rate_hz=RATE_HZ, **options):
    """Returns (channels, frames) samples as a file, by PyAV."""
    av = pytest.importorskip("av")
    layout = {1: "mono", 2: "stereo"}[len(samples)]
    file = tempfile.NamedTemporaryFile()  # "faststart" reads what was written
    with av.open(file.name, "w", format=container, options=options) as output:
        stream = output.add_stream(codec, rate=rate_hz, layout=layout)
        stream.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples, np.float32), format="fltp", layout=layout
        )
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return Path(file.name).read_bytes()
