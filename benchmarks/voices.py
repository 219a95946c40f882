"""Accuracy of statistics of voices, for speakers who are not in training.

    python -m benchmarks.voices SOURCE

SOURCE contains fsdd/, as published: spoken digits at 8 kHz. Each of five speakers is
held out in turn (the sixth is that of the test rows of `benchmarks.digits`), and a
logistic regression is fitted to standardized statistics of the others' recordings.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.digits import TEST_SPEAKER
from mmkeras.cli import run_program
from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.column import Audio

SETTINGS = [
    AudioConfig(encoder=encoder, mfccs=mfccs, segments=segments)
    for encoder, mfccs in (
        ("log_mel_stats", 40),
        ("mfcc_stats", 40),
        ("mfcc_stats", 13),
    )
    for segments in (1, 3, 5)
]


def statistics(files: Sequence[bytes], settings: AudioConfig) -> np.ndarray:
    """Returns (N, D) statistics of WAV files."""
    vector = Audio("voice", settings).statistics().vector
    compute = tf.function(vector, [tf.TensorSpec([], tf.string)], autograph=False)
    return np.stack([compute(data).numpy() for data in files])


def measure(x: np.ndarray, labels: np.ndarray, speakers: np.ndarray) -> float:
    """Returns the mean accuracy of speakers who are each left out of the fit."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    scores = []
    for speaker in np.unique(speakers):
        out = speakers == speaker
        model.fit(x[~out], labels[~out])
        scores.append(model.score(x[out], labels[out]))
    return mean(scores)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    folder = parser.parse_args(argv).source / "fsdd"
    paths = sorted(p for p in folder.glob("*.wav") if TEST_SPEAKER not in p.stem)
    labels, speakers, _ = np.array([path.stem.split("_") for path in paths]).T
    files = [path.read_bytes() for path in paths]
    print("| encoder | coefficients | segments | numbers | accuracy |")
    print("|---|---|---|---|---|")
    for settings in SETTINGS:
        x = statistics(files, settings)
        kind = f"`{settings.encoder}`"
        count = settings.mfccs if settings.encoder == "mfcc_stats" else ""
        cells = [kind, count, settings.segments, x.shape[1]]
        accuracy = measure(x, labels, speakers)
        print(f"| {' | '.join(map(str, cells))} | {accuracy:.3f} |", flush=True)


if __name__ == "__main__":
    run_program(main)
