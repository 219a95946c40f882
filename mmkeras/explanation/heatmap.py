"""Effects of the parts of a picture or a sound, drawn over it."""

import numpy as np
from PIL import Image

from mmkeras.explanation.occlusion import Spectrum
from mmkeras.modalities.audio.mel import hz_to_mel, mel_to_hz
from mmkeras.modalities.image.encoding import png_bytes

# Weaker effects than this are drawn pale, however strong they are among themselves.
LEAST_SCALE = 0.02
FOR, AGAINST = (217, 95, 2), (31, 104, 196)  # told apart by the colour-blind, too
_STRONGEST = 0.8  # share of colour where the effect is strongest
_PALE = 0.45  # contrast left to what lies below
_SHOWN_DB = 60
_SOUND_PX = (320, 160)


def scale_of(effects: np.ndarray) -> float:
    """Returns the effect that is drawn in full colour."""
    return max(float(np.abs(effects).max(initial=0)), LEAST_SCALE)


def overlay(image: np.ndarray, effects: np.ndarray) -> bytes:
    """Draws effects over a picture in pale grays, as PNG.

    Args:
        picture: (H, W, 3) uint8.
        effects: (rows, columns), positive where a part speaks for the answer.
    """
    height, width = image.shape[:2]
    share = Image.fromarray((effects / scale_of(effects)).astype(np.float32))
    share = np.asarray(share.resize((width, height), Image.Resampling.BICUBIC))
    share = np.clip(share, -1, 1)[..., None]  # (H, W, 1)
    gray = image @ np.array([0.299, 0.587, 0.114])
    gray = 255 - _PALE * (255 - gray[..., None])
    colour = np.where(share > 0, FOR, AGAINST)
    alpha = _STRONGEST * np.abs(share)
    return png_bytes(np.round(gray * (1 - alpha) + colour * alpha).astype(np.uint8))


def spectrogram_image(found: Spectrum) -> np.ndarray:
    """Draws a sound, loud parts dark: (H, W, 3) uint8, low frequencies below."""
    width, height = _SOUND_PX
    loudness = np.abs(found.values)  # (N, T)
    decibels = 20 * np.log10(np.maximum(loudness / max(loudness.max(), 1e-12), 1e-6))
    top = hz_to_mel(found.rate_hz / 2)
    hz = mel_to_hz((np.arange(height)[::-1] + 0.5) / height * top)
    rows = np.minimum(hz / (found.rate_hz / 2) * len(loudness), len(loudness) - 1)
    columns = np.arange(width) * loudness.shape[1] // width
    picked = decibels[rows.astype(int)[:, None], columns]
    gray = 255 * np.clip(-picked / _SHOWN_DB, 0, 1)
    return np.repeat(np.round(gray)[..., None], 3, axis=2).astype(np.uint8)
