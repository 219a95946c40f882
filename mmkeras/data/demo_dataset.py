"""Demo data set with three modalities, generated locally without a download.

Each row is a pressed telephone key: a noisy image of the handwritten digit, the tone
of the key and a phrase about it. Each modality alone is ambiguous in some rows, not
the same for each, so that only fusion classifies nearly all.
"""

import csv
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from mmkeras.data.generated_folder import generate_folder
from mmkeras.errors import UserError
from mmkeras.files import default_cache_dir
from mmkeras.modalities.audio.wav import wav_bytes
from mmkeras.schema import MODALITIES, TEST, TRAIN, VAL

# Increment whenever the same seed would give other bytes.
VERSION = 1
ROWS = 1797  # all of scikit-learn's digits
TABLE_FILE = "data.csv"
STAMP_FILE = "embedded.json"
TEXT, IMAGE, AUDIO = MODALITIES
COLUMNS = ("id", *MODALITIES, "label", "split")

# Shares of the 1,797 rows that make 1,200 for training, 200 and 397.
_VAL_SHARE, _TEST_SHARE = 200 / 1797, 397 / 1797
# Probability of an empty cell, per modality; no row lacks two.
_ABSENT = 0.03

# (low, high) tone of each key in Hz: its row and its column on the keypad.
# Source: ITU-T Recommendation Q.23, 1988, https://www.itu.int/rec/T-REC-Q.23; the
# fourth column (1633 Hz) has no digits.
_ROWS_HZ, _COLUMNS_HZ = (697, 770, 852, 941), (1209, 1336, 1477)
DTMF_HZ = {
    digit: (_ROWS_HZ[key // 3], _COLUMNS_HZ[key % 3])
    for key, digit in enumerate((1, 2, 3, 4, 5, 6, 7, 8, 9, None, 0))
    if digit is not None
}
_RATES_HZ = (8_000, 16_000)
_FAINT = 0.30  # probability that one of the two tones is lost in noise

_SIZE_PX = 32
_BAR = 0.50  # probability that a bar hides a part of the digit

_CLEAR, _EITHER, _HINT = 0.68, 0.20, 0.08  # kinds of phrase; the rest is empty
_TYPO = 0.06  # probability that a word is misspelt
_WORDS = "zero one two three four five six seven eight nine".split()
_SYNONYMS = "nought single pair trio quartet quintet sextet septet octet nonet".split()
_NAMES = [
    (word, word, str(digit), synonym)
    for digit, (word, synonym) in enumerate(zip(_WORDS, _SYNONYMS, strict=True))
]
_CLEAR_PHRASES = (
    "the caller pressed {a}",
    "it was key {a} I believe",
    "that is a {a} written by hand",
    "please dial {a} now",
    "she said {a} twice",
    "number {a} on the pad",
    "{a}",
    "sounds like {a} to me",
)
_EITHER_PHRASES = (
    "either {a} or {b}",
    "could be {a} but maybe {b}",
    "somewhere between {a} and {b}",
    "hard to read, {a} or {b}?",
    "he said {a}, no, wait, {b}",
)
_HINTS = {
    "an odd digit above four": (5, 7, 9),
    "an even digit below five": (0, 2, 4),
    "an even digit above five": (6, 8),
    "an odd digit below four": (1, 3),
    "some key in the top row": (1, 2, 3),
    "some key in the middle row": (4, 5, 6),
    "some key near the bottom": (7, 8, 9, 0),
}
_EMPTY_PHRASES = (
    "someone pressed a key",
    "no idea which one that was",
    "the line was bad, ask again",
    "a digit, nothing more to say",
)


def default_folder() -> Path:
    """Returns the folder of the data set in the user's cache."""
    return default_cache_dir() / f"embedded-{VERSION}"


def make_dataset(folder: Path, rows: int = ROWS, seed: int = 0) -> Path:
    """Writes the data set atomically, unless `folder` already has it; returns `folder`.

    The same `rows` and `seed` give the same bytes.

    Args:
        folder: Folder of data.csv, images/NNNN.png (32x32, gray) and audio/NNNN.wav
            (0.2 to 1.0 s at 8 or 16 kHz, 16 bit, mono).
        rows: Number of rows, from 10 to 1797.
        seed: Seed of the order, the splits and all noise; 0 or more.

    Raises:
        UserError: `folder` holds something else or cannot be written.

    Source: Alpaydin and Kaynak, 1998, https://doi.org/10.24432/C50P49, as scikit-learn
    ships the digits (8x8, 1,797 rows).

    Example:
        table = make_dataset(default_folder()) / TABLE_FILE
    """
    if not 10 <= rows <= ROWS:
        raise UserError(f"rows={rows} is not possible: it must be from 10 to {ROWS}.")
    stamp = {"version": VERSION, "rows": rows, "seed": seed}
    return generate_folder(
        folder,
        stamp,
        partial(_write, rows=rows, seed=seed),
        name="demo data set",
        stamp_file=STAMP_FILE,
    )


def _write(folder: Path, rows: int, seed: int) -> None:
    from sklearn.datasets import load_digits  # a second; only when data is made

    for name in ("images", "audio"):
        (folder / name).mkdir()
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(ROWS)[:rows]
    labels = digits.target[order]
    splits = _splits(labels)
    with open(folder / TABLE_FILE, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for row, (source, label) in enumerate(zip(order, labels, strict=True)):
            rng = np.random.default_rng([seed, row])
            cells = _write_row(folder, f"{row:04}", digits.images[source], label, rng)
            table.writerow((f"{row:04}", *cells, label, splits[row]))


def _write_row(
    folder: Path, name: str, digit: np.ndarray, label: int, rng: np.random.Generator
) -> tuple[str, str, str]:
    """Writes the files of one row; returns its text, image and audio cells."""
    cells = {
        TEXT: noisy_phrase(label, rng),
        IMAGE: f"images/{name}.png",
        AUDIO: f"audio/{name}.wav",
    }
    image, tone = draw_digit(digit, rng), dial_tone(label, rng)
    chance = rng.random()
    for i, modality in enumerate(cells):
        if i * _ABSENT <= chance < (i + 1) * _ABSENT:
            cells[modality] = ""
    if cells[IMAGE]:
        Image.fromarray(image).save(folder / cells[IMAGE])
    if cells[AUDIO]:
        (folder / cells[AUDIO]).write_bytes(wave_file(*tone))
    return cells[TEXT], cells[IMAGE], cells[AUDIO]


def _splits(labels: np.ndarray) -> np.ndarray:
    """Returns train, val or test for each row, every class in the same shares.

    Takes evenly spaced rows of each class, which are in random order already.
    """
    splits = np.full(len(labels), TRAIN, dtype="U5")
    rest = np.argsort(labels, kind="stable")
    for split, share in ((TEST, _TEST_SHARE), (VAL, _VAL_SHARE / (1 - _TEST_SHARE))):
        ends = np.floor(np.arange(len(rest) + 1) * share + 1e-9)  # 397/1797*1797
        in_split = np.diff(ends) > 0
        splits[rest[in_split]] = split
        rest = rest[~in_split]
    return splits


def draw_digit(digit: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turns one (8, 8) digit, 0 to 16, into a noisy (32, 32) uint8 image."""
    side = int(rng.integers(26, 31))
    small = Image.fromarray((digit * 255 / 16).astype(np.uint8))
    canvas = Image.new("L", (_SIZE_PX, _SIZE_PX))
    left, top = (int(x) for x in rng.integers(0, _SIZE_PX - side + 1, 2))
    canvas.paste(small.resize((side, side), Image.Resampling.BICUBIC), (left, top))
    canvas = canvas.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))
    pixels = np.asarray(canvas, np.float32) * rng.uniform(0.6, 1)
    if rng.random() < _BAR:
        thick = int(rng.integers(7, 13))
        start = int(rng.integers(2, _SIZE_PX - thick - 1))
        view = pixels if rng.random() < 0.5 else pixels.T
        view[start : start + thick] = rng.uniform(0, 120)
    pixels += rng.normal(0, rng.uniform(5, 35), pixels.shape)
    return pixels.clip(0, 255).round().astype(np.uint8)


def dial_tone(
    label: int, rng: np.random.Generator, *, clean: bool = False
) -> tuple[np.ndarray, int]:
    """Returns the tone of a key as (S,) float64 in [-1, 1] and its rate in Hz.

    With `clean` there is no noise, and neither of the two tones is faint.
    """
    rate_hz = int(rng.choice(_RATES_HZ))
    seconds = np.arange(int(rng.uniform(0.2, 1.0) * rate_hz)) / rate_hz
    levels = np.ones(2)
    if rng.random() < _FAINT and not clean:
        levels[rng.integers(2)] = 10 ** (rng.uniform(-50, -30) / 20)
    phases = rng.uniform(0, 2 * np.pi, 2)
    samples = sum(
        level * np.sin(2 * np.pi * hz * seconds + phase)
        for level, hz, phase in zip(levels, DTMF_HZ[int(label)], phases, strict=True)
    )
    if not clean:
        snr_db = rng.uniform(-5, 15)
        samples = samples + rng.normal(0, 10 ** (-snr_db / 20), len(samples))
    gain = 10 ** (rng.uniform(-20, 0) / 20)
    return samples * gain / np.abs(samples).max(), rate_hz


def wave_file(samples: np.ndarray, rate_hz: int) -> bytes:
    """Returns a mono 16-bit WAV of (S,) samples in [-1, 1]."""
    return wav_bytes((samples * 32767).round().astype(np.int16)[:, None], 16, rate_hz)


def noisy_phrase(label: int, rng: np.random.Generator) -> str:
    """Returns a phrase about a digit: clear, ambiguous, a hint, or empty of one."""
    label, chance = int(label), rng.random()
    other = (label + int(rng.integers(1, 10))) % 10
    a, b = (str(rng.choice(_NAMES[digit])) for digit in (label, other))
    if chance < _CLEAR:
        text = str(rng.choice(_CLEAR_PHRASES)).format(a=a)
    elif chance < _CLEAR + _EITHER:
        a, b = (a, b) if rng.random() < 0.5 else (b, a)
        text = str(rng.choice(_EITHER_PHRASES)).format(a=a, b=b)
    elif chance < _CLEAR + _EITHER + _HINT:
        text = str(rng.choice([h for h, fits in _HINTS.items() if label in fits]))
    else:
        text = str(rng.choice(_EMPTY_PHRASES))
    return " ".join(_typo(word, rng) for word in text.split())


def _typo(word: str, rng: np.random.Generator) -> str:
    """Drops, doubles or swaps a letter of some words, never of numerals."""
    if rng.random() >= _TYPO or len(word) < 3:
        return word
    at = int(rng.integers(len(word) - 1))
    kind = rng.integers(3)
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[: at + 1] + word[at:]
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
