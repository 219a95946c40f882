"""Parts of a row hidden one after another: regions, words, times and frequencies."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import signal

from mmkeras.modalities.audio.mel import hz_to_mel, mel_to_hz
from mmkeras.modalities.audio.reading import wave_bytes
from mmkeras.modalities.image.encoding import png_bytes

_PICTURE_GRID = (8, 8)
_SOUND_GRID = (8, 12)  # bands, stretches of time
_WINDOW_CELLS = 2  # side of what is hidden at once; windows overlap by a cell
_FRAME_S = 0.032
_LEAST_SAMPLES = 64
_QUIET_PERCENTILE = 10
MAX_WORDS = 200
# Where no spaces part words, as in Chinese and Japanese, each character is one.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


def windows(grid: tuple[int, int]) -> np.ndarray:
    """Returns (W, rows, columns) bool: which cells each of W windows hides."""
    rows, columns = grid
    high, wide = min(_WINDOW_CELLS, rows), min(_WINDOW_CELLS, columns)
    masks = []
    for top in range(rows - high + 1):
        for left in range(columns - wide + 1):
            mask = np.zeros(grid, bool)
            mask[top : top + high, left : left + wide] = True
            masks.append(mask)
    return np.stack(masks)


def average_over_windows(effects: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns (rows, columns): the mean effect (W,) of the windows over each cell."""
    return np.tensordot(effects, masks, 1) / masks.sum(axis=0)


# Pictures ---------------------------------------------------------------------


def image_windows() -> np.ndarray:
    """Returns the windows of a picture, as `windows` does."""
    return windows(_PICTURE_GRID)


def hidden_regions(pixels: np.ndarray, masks: np.ndarray) -> Iterator[bytes]:
    """Yields the picture as PNG with one window at a time in the colour of its edge.

    That is the median along the four sides: what lies behind most things.

    Args:
        pixels: (S, S, 3) uint8.
        masks: (W, rows, columns) bool.
    """
    sides = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
    fill = np.median(np.concatenate(sides), axis=0).astype(np.uint8)
    for mask in masks:
        yield png_bytes(np.where(_enlarged(mask, len(pixels))[..., None], fill, pixels))


def _enlarged(mask, size):
    rows, columns = (np.arange(size) * cells // size for cells in mask.shape)
    return mask[rows[:, None], columns]


# Words ------------------------------------------------------------------------


def words(text: str) -> list[tuple[int, int]]:
    """Returns where the first words begin and end; at most `MAX_WORDS`."""
    return [match.span() for match in _WORD.finditer(text)][:MAX_WORDS]


def without_word(text: str, spans: list[tuple[int, int]]) -> Iterator[bytes]:
    """Yields the text in UTF-8 with one word at a time left out."""
    for start, end in spans:
        yield (text[:start] + text[end:]).strip().encode()


# Sounds -----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Spectrum:
    """A sound in time and frequency, in cells of equal steps in mel and in seconds.

    Attributes:
        values: (N, T) complex, frequencies by frames.
        band: (N,) the row of cells that each frequency is in, from low to high.
        step: (T,) the column that each frame is in.
        grid: Rows and columns.
        edges_hz: Edges of the rows.
        samples: Of the wave.
        rate_hz: Of the wave.
    """

    values: np.ndarray
    band: np.ndarray
    step: np.ndarray
    grid: tuple[int, int]
    edges_hz: tuple[float, ...]
    samples: int
    rate_hz: int


def spectrum(wave: np.ndarray, rate_hz: int) -> Spectrum | None:
    """Transforms a (S,) wave; None of one too short to have parts."""
    frame = _frame(len(wave), rate_hz)
    if len(wave) < _LEAST_SAMPLES:
        return None
    hz, _, values = signal.stft(wave, rate_hz, nperseg=frame, noverlap=frame * 3 // 4)
    bands = _SOUND_GRID[0]
    edges_hz = mel_to_hz(np.linspace(0, hz_to_mel(rate_hz / 2), bands + 1))
    steps = min(_SOUND_GRID[1], values.shape[1])
    return Spectrum(
        values=values,
        band=np.clip(np.searchsorted(edges_hz, hz, "right") - 1, 0, bands - 1),
        step=np.arange(values.shape[1]) * steps // values.shape[1],
        grid=(bands, steps),
        edges_hz=tuple(edges_hz.tolist()),
        samples=len(wave),
        rate_hz=rate_hz,
    )


def _frame(samples, rate_hz):
    return min(2 ** round(np.log2(_FRAME_S * rate_hz)), samples // 4 * 4)


def hidden_sounds(found: Spectrum, masks: np.ndarray) -> Iterator[bytes]:
    """Yields the sound as WAV with one window at a time as quiet as it gets elsewhere.

    Nothing there is louder than the sound's quietest tenth; silence would be a thing
    of its own to a model that has never heard it.

    Args:
        found: The sound.
        masks: (W, *found.grid) bool.
    """
    loudness = np.abs(found.values)
    quiet = np.percentile(loudness, _QUIET_PERCENTILE)
    damped = found.values * np.minimum(1, quiet / np.maximum(loudness, 1e-12))
    for mask in masks:
        hidden = mask[found.band[:, None], found.step]  # (N, T)
        yield _wave(np.where(hidden, damped, found.values), found)


def _wave(values, found) -> bytes:
    frame = _frame(found.samples, found.rate_hz)
    _, wave = signal.istft(values, nperseg=frame, noverlap=frame * 3 // 4)
    wave = np.pad(wave, (0, max(found.samples - len(wave), 0)))[: found.samples]
    return wave_bytes(wave.astype(np.float32)[:, None], 32, found.rate_hz)
