"""Occlusion: contents of a row with one region, word, or time and frequency hidden."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import signal

from mmkeras.modalities.audio.mel import hz_to_mel, mel_to_hz
from mmkeras.modalities.audio.wav import wav_bytes
from mmkeras.modalities.image.encoding import png_bytes

IMAGE_GRID = (8, 8)
_AUDIO_GRID = (8, 12)  # bands, steps of time
_WINDOW_CELLS = 2  # side of a window; windows overlap by one cell
_FRAME_S = 0.032
_MIN_SAMPLES = 64
_QUIET_PERCENTILE = 10
MAX_WORDS = 200
# Chinese and Japanese have no spaces between words: each character is one.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


def windows(grid: tuple[int, int]) -> np.ndarray:
    """Returns (W, rows, columns) bool: which cells each of W windows hides."""
    rows, columns = grid
    height, width = min(_WINDOW_CELLS, rows), min(_WINDOW_CELLS, columns)
    masks = []
    for top in range(rows - height + 1):
        for left in range(columns - width + 1):
            mask = np.zeros(grid, bool)
            mask[top : top + height, left : left + width] = True
            masks.append(mask)
    return np.stack(masks)


def average_over_windows(effects: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns (rows, columns): the mean effect (W,) of the windows over each cell."""
    return np.tensordot(effects, masks, 1) / masks.sum(axis=0)


def hide_regions(pixels: np.ndarray, masks: np.ndarray) -> Iterator[bytes]:
    """Yields the image as PNG with one window at a time in the colour of its edge.

    That is the median along the four sides, usually the background. `pixels` are
    (S, S, 3) uint8, `masks` (W, rows, columns) bool.
    """
    sides = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    fill = np.median(np.concatenate(sides), axis=0).astype(np.uint8)
    size = len(pixels)
    rows, columns = (np.arange(size) * cells // size for cells in masks.shape[1:])
    for mask in masks:
        hidden = mask[rows[:, None], columns][..., None]  # (S, S, 1)
        yield png_bytes(np.where(hidden, fill, pixels))


def find_words(text: str) -> list[tuple[int, int]]:
    """Returns (start, end) of the first words, at most `MAX_WORDS`."""
    return [match.span() for match in _WORD.finditer(text)][:MAX_WORDS]


def remove_words(text: str, spans: list[tuple[int, int]]) -> Iterator[bytes]:
    """Yields the text in UTF-8 without one word at a time."""
    for start, end in spans:
        yield (text[:start] + text[end:]).strip().encode()


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
    bands = _AUDIO_GRID[0]
    edges_hz = mel_to_hz(np.linspace(0, hz_to_mel(rate_hz / 2), bands + 1))
    steps = min(_AUDIO_GRID[1], values.shape[1])
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
