"""Audio with one band and time hidden at a time, and the effects over a spectrogram."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import signal

from mmkeras.modalities import heatmap
from mmkeras.modalities.audio.mel import hz_to_mel, mel_to_hz
from mmkeras.modalities.audio.wav import wav_bytes

_GRID = (8, 12)  # bands, steps of time
_FRAME_S = 0.032
_MIN_SAMPLES = 64
_QUIET_PERCENTILE = 10
_RANGE_DB = 60
_SPECTROGRAM_PX = (320, 160)


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """Audio in time and frequency, in cells of equal steps in mel and in seconds.

    Attributes:
        values: (N, T) complex, frequencies by frames.
        band: (N,) row of cells of each frequency, low frequencies first.
        step: (T,) column of cells of each frame.
        grid: Number of rows and columns of cells.
        edges_hz: Edges of the rows.
        samples: Length of the wave.
    """

    values: np.ndarray
    band: np.ndarray
    step: np.ndarray
    grid: tuple[int, int]
    edges_hz: tuple[float, ...]
    samples: int
    rate_hz: int


def compute_spectrum(wave: np.ndarray, rate_hz: int) -> Spectrum | None:
    """Transforms a (S,) wave; returns None if it is too short to have parts."""
    if len(wave) < _MIN_SAMPLES:
        return None
    frame = _frame_samples(len(wave), rate_hz)
    hz, _, values = signal.stft(wave, rate_hz, nperseg=frame, noverlap=frame * 3 // 4)
    bands = _GRID[0]
    edges_hz = mel_to_hz(np.linspace(0, hz_to_mel(rate_hz / 2), bands + 1))
    steps = min(_GRID[1], values.shape[1])
    return Spectrum(
        values=values,
        band=np.clip(np.searchsorted(edges_hz, hz, "right") - 1, 0, bands - 1),
        step=np.arange(values.shape[1]) * steps // values.shape[1],
        grid=(bands, steps),
        edges_hz=tuple(edges_hz.tolist()),
        samples=len(wave),
        rate_hz=rate_hz,
    )


def _frame_samples(samples, rate_hz):
    return min(2 ** round(np.log2(_FRAME_S * rate_hz)), samples // 4 * 4)


def hide_bands(spectrum: Spectrum, masks: np.ndarray) -> Iterator[bytes]:
    """Yields the audio as WAV with one window at a time damped.

    A window becomes as quiet as the quietest tenth of the audio. Silence would be
    unusual input for a model that was trained without it. `masks` are
    (W, *spectrum.grid) bool.
    """
    loudness = np.abs(spectrum.values)
    quiet = np.percentile(loudness, _QUIET_PERCENTILE)
    damped = spectrum.values * np.minimum(1, quiet / np.maximum(loudness, 1e-12))
    for mask in masks:
        hidden = mask[spectrum.band[:, None], spectrum.step]  # (N, T)
        yield _invert(np.where(hidden, damped, spectrum.values), spectrum)


def _invert(values, spectrum) -> bytes:
    samples, rate_hz = spectrum.samples, spectrum.rate_hz
    frame = _frame_samples(samples, rate_hz)
    _, wave = signal.istft(values, nperseg=frame, noverlap=frame * 3 // 4)
    wave = np.pad(wave, (0, max(samples - len(wave), 0)))[:samples]
    return wav_bytes(wave.astype(np.float32)[:, None], 32, rate_hz)


def spectrogram_image(spectrum: Spectrum) -> np.ndarray:
    """Draws (H, W, 3) uint8: loud parts dark, low frequencies at the bottom."""
    width, height = _SPECTROGRAM_PX
    loudness = np.abs(spectrum.values)  # (N, T)
    decibels = 20 * np.log10(np.maximum(loudness / max(loudness.max(), 1e-12), 1e-6))
    nyquist_hz = spectrum.rate_hz / 2
    hz = mel_to_hz((np.arange(height)[::-1] + 0.5) / height * hz_to_mel(nyquist_hz))
    rows = np.minimum(hz / nyquist_hz * len(loudness), len(loudness) - 1)
    columns = np.arange(width) * loudness.shape[1] // width
    pixels_db = decibels[rows.astype(int)[:, None], columns]
    gray = 255 * np.clip(-pixels_db / _RANGE_DB, 0, 1)
    return np.repeat(np.round(gray)[..., None], 3, axis=2).astype(np.uint8)


def draw_effects(
    wave: np.ndarray, rate_hz: int, explained: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a spectrogram with the effects (bands, steps) in colour."""
    effects = np.array(explained["effects"])
    image = spectrogram_image(compute_spectrum(wave, rate_hz))
    return {
        "heatmap": heatmap.overlay(image, effects[::-1]),  # low at the bottom
        "scale": heatmap.scale_of(effects),
        "seconds": explained["seconds"],
        "top_hz": explained["band_edges_hz"][-1],
    }


def draw_weights(
    wave: np.ndarray, rate_hz: int, weights: np.ndarray, *, clip_s: float, scale: float
) -> bytes | None:
    """Draws weights (K,) of K equal stretches of `clip_s` over the spectrogram, as PNG.

    A shorter wave (S,) is in the first of them. None if it has no parts, or K is 1.
    """
    spectrum = compute_spectrum(wave, rate_hz)
    if spectrum is None or len(weights) < 2:
        return None
    image = spectrogram_image(spectrum)
    seconds = (np.arange(image.shape[1]) + 0.5) / image.shape[1] * len(wave) / rate_hz
    stretch = (seconds / clip_s * len(weights)).astype(int).clip(max=len(weights) - 1)
    return heatmap.overlay(image, weights[None, stretch], scale)
