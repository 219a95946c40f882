"""Audio-visual digits data set from MNIST, FSDD and ESC-10.

    python -m benchmarks.digits SOURCE FOLDER [--seed N] [--rows 5500,500,1000]
    python -m mmkeras.compare --data FOLDER/digits.csv --presets small-concat,gated

SOURCE contains mnist.npz, fsdd/ and esc10/, as published. There are 5,500 training, 500
validation and 1,000 test rows.

Image: a MNIST digit (a MNIST test image for test), projected on the fewest principal
components that reach 25 % of the variance (4), fitted on the training images. Audio: a
recording of the same digit with noise, at a random signal-to-noise ratio in [-5, 5] dB.
The recordings (8 kHz, FSDD) of the speaker yweweler are for test; of the five others,
takes 0 to 4 are for validation, the rest for training. The noise (ESC-10) of folds 1 to
3 is for training, of fold 4 for validation, of fold 5 for test.
"""

import argparse
import csv
import re
from math import gcd
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from scipy.signal import resample_poly

ROWS = {"train": 5_500, "val": 500, "test": 1_000}
TEST_SPEAKER, VAL_TAKES = "yweweler", range(5)
NOISE_FOLDS = {"train": "123", "val": "4", "test": "5"}
VARIANCE, SNR_DB, RATE_HZ = 0.25, (-5.0, 5.0), 8_000


def project_images(
    source: Path, rows: dict[str, int], rng
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns split -> degraded images (N, 28, 28) uint8 and digits (N,)."""
    with np.load(source / "mnist.npz") as file:
        order = rng.permutation(len(file["x_train"]))[: rows["train"] + rows["val"]]
        test = rng.permutation(len(file["x_test"]))[: rows["test"]]
        train, val = np.split(order, [rows["train"]])
        chosen = {
            "train": (file["x_train"][train], file["y_train"][train]),
            "val": (file["x_train"][val], file["y_train"][val]),
            "test": (file["x_test"][test], file["y_test"][test]),
        }
    flat = chosen["train"][0].reshape(rows["train"], -1).astype(float)
    mean = flat.mean(axis=0)
    _, sizes, axes = np.linalg.svd(flat - mean, full_matrices=False)
    reached = np.cumsum(sizes**2) / np.sum(sizes**2)
    axes = axes[: int(np.searchsorted(reached, VARIANCE)) + 1]
    print(f"PCA: {len(axes)} components, {reached[len(axes) - 1]:.3f} of the variance")
    result = {}
    for split, (images, digits) in chosen.items():
        flat = (images.reshape(len(images), -1) - mean) @ axes.T @ axes + mean
        pixels = np.clip(flat, 0, 255).round().astype(np.uint8)
        result[split] = pixels.reshape(-1, 28, 28), digits
    return result


def load_recordings(source: Path) -> dict[tuple[str, int], list[np.ndarray]]:
    """Returns (split, digit) -> recordings at 8 kHz."""
    recordings = {}
    for path in sorted((source / "fsdd").glob("*.wav")):
        digit, speaker, take = re.fullmatch(r"(\d)_(\w+)_(\d+)", path.stem).groups()
        split = "val" if int(take) in VAL_TAKES else "train"
        split = "test" if speaker == TEST_SPEAKER else split
        audio, _ = soundfile.read(path, dtype="float32")
        recordings.setdefault((split, int(digit)), []).append(audio)
    return recordings


def load_noises(source: Path) -> dict[str, list[np.ndarray]]:
    """Returns split -> recordings of noise at 8 kHz that are not silent."""
    recordings = {split: [] for split in ROWS}
    for path in sorted((source / "esc10").rglob("*.ogg")):
        split = next(s for s, folds in NOISE_FOLDS.items() if path.name[0] in folds)
        audio, rate_hz = soundfile.read(path, always_2d=True, dtype="float32")
        common = gcd(RATE_HZ, rate_hz)
        audio = resample_poly(
            audio.mean(axis=1), RATE_HZ // common, rate_hz // common
        ).astype(np.float32)
        if np.sqrt(np.mean(audio**2)) > 1e-5:
            recordings[split].append(audio)
    return recordings


def mix(voice: np.ndarray, choices: list[np.ndarray], rng) -> np.ndarray:
    """Adds a random excerpt of noise that is not silent."""
    power = 0.0
    while power < 1e-8:
        excerpt = choices[rng.integers(len(choices))]
        start = rng.integers(max(1, len(excerpt) - len(voice) + 1))
        excerpt = np.resize(excerpt[start : start + len(voice)], len(voice))
        power = float(np.mean(excerpt**2))
    ratio = 10 ** (rng.uniform(*SNR_DB) / 10)
    audio = voice + excerpt * np.sqrt(float(np.mean(voice**2)) / power / ratio)
    return audio * min(1.0, 0.99 / float(np.abs(audio).max() + 1e-9))


def build_table(
    source: Path, folder: Path, seed: int, rows: dict[str, int] = ROWS
) -> Path:
    """Writes images/, audio/ and digits.csv; returns the table's path."""
    rng = np.random.default_rng(seed)
    for name in ("images", "audio"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    spoken, noisy = load_recordings(source), load_noises(source)
    table = folder / "digits.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "image", "audio", "label", "split"])
        for split, (images, digits) in project_images(source, rows, rng).items():
            for i, (image, digit) in enumerate(zip(images, digits, strict=True)):
                takes = spoken[split, int(digit)]
                voice = takes[rng.integers(len(takes))]
                name = f"{split}_{i:05d}"
                paths = [f"images/{name}.png", f"audio/{name}.wav"]
                Image.fromarray(image).save(folder / paths[0])
                audio = mix(voice, noisy[split], rng)
                soundfile.write(folder / paths[1], audio, RATE_HZ, subtype="PCM_16")
                writer.writerow([name, *paths, digit, split])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", default=",".join(map(str, ROWS.values())))
    arguments = parser.parse_args()
    rows = dict(zip(ROWS, map(int, arguments.rows.split(",")), strict=True))
    print(build_table(arguments.source, arguments.folder, arguments.seed, rows))


if __name__ == "__main__":
    main()
