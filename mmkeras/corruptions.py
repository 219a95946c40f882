"""Bytes -> worse bytes: blurred pictures, noise over sounds, words dropped."""

import io
import re

import numpy as np
from PIL import Image, ImageFilter

from mmkeras.decoders import Decoders
from mmkeras.media import wave_bytes

_WORD = re.compile(r"\S+\s*")


def png_bytes(pixels: np.ndarray) -> bytes:
    """Encodes (H, W, 3) uint8, or (H, W, 4) with alpha, without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def blur(data: bytes, share: float, decoders: Decoders) -> bytes:
    """Returns the picture at the model's size, blurred, as PNG.

    Args:
        data: An encoded picture.
        share: Standard deviation of the blur as a share of the picture's side.
        decoders: Those of the model.

    Raises:
        BadMedia: The picture cannot be decoded.
    """
    pixels = decoders.pixels(data)
    gaussian = ImageFilter.GaussianBlur(share * len(pixels))
    return png_bytes(np.asarray(Image.fromarray(pixels).filter(gaussian)))


def add_noise(
    data: bytes, snr_db: float, rate_hz: int, decoders: Decoders, seed: list[int]
) -> bytes:
    """Returns the sound as the model hears it under white noise, as WAV of floats.

    Args:
        data: A WAV file.
        snr_db: Power of the sound over that of the noise, in decibels; the mean over
            the whole sound. Silence stays silent.
        rate_hz: The model's sample rate.
        decoders: Those of the model.
        seed: Of the noise.

    Raises:
        BadMedia: The sound cannot be decoded.
    """
    wave = decoders.wave(data)
    noise = np.random.default_rng(seed).standard_normal(wave.shape)
    noise *= np.sqrt(np.mean(wave.astype("float64") ** 2) / 10 ** (snr_db / 10))
    return wave_bytes((wave + noise).astype(np.float32)[:, None], 32, rate_hz)


def drop_words(data: bytes, share: float, seed: list[int]) -> bytes:
    """Returns the UTF-8 text with each word dropped with chance `share`.

    With one seed, what is dropped at a lower share is dropped at a higher one, too.
    """
    words = _WORD.findall(data.decode("utf-8", "replace"))
    drawn = np.random.default_rng(seed).random(len(words))
    kept = (word for word, chance in zip(words, drawn, strict=True) if chance >= share)
    return "".join(kept).strip().encode()
