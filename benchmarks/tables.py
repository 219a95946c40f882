"""Generated tables for the benchmarks: JPEGs, 16 kHz WAVs and sentences."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

WORDS = "red green blue small large round square fast slow warm cold old new".split()


def write_table(
    folder: Path, rows: int, *, size_px=(500, 375), pad_kb: int = 0, audio=True
) -> Path:
    """Writes rows with a smooth image, a second of noise and a sentence.

    Image files are padded to at least `pad_kb`, which costs no time to decode.
    """
    rng = np.random.default_rng(0)
    for name in ("images", "audio"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images = [_jpeg(rng, size_px, pad_kb) for _ in range(32)]
    waves = [_wav(rng) for _ in range(32)]
    with (folder / "data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "image", "audio", "label"])
        for i in range(rows):
            image, wave = f"images/{i}.jpg", f"audio/{i}.wav" if audio else ""
            # A different tail makes each file's content differ.
            (folder / image).write_bytes(images[i % 32] + i.to_bytes(4, "big"))
            if audio:
                (folder / wave).write_bytes(waves[i % 32])
            text = " ".join(rng.choice(WORDS, 8))
            writer.writerow([text, image, wave, f"class {i % 4}"])
    return folder / "data.csv"


def prepare_batches(folder: Path, config, rows: int, **settings):
    """Ingests a table of `write_table`; returns the `Batches` of its training rows."""
    from mmkeras.config.schedule import with_schedule
    from mmkeras.data.dataset import with_columns
    from mmkeras.data.fit_preprocessing import fit_preprocessing
    from mmkeras.data.ingest import ingest
    from mmkeras.data.input_pipeline import Batches
    from mmkeras.modalities.preprocessor import Preprocessor

    table = replace(config.table, cache_dir=str(folder / "cache"))
    train = replace(config.train, passes=1)
    config = replace(config, table=table, train=train)
    dataset = ingest(write_table(folder / "rows", rows, **settings), config)
    config = with_schedule(with_columns(config, dataset), dataset.rows["train"])
    preprocessor = Preprocessor(config, fit_preprocessing(dataset, config))
    return Batches(dataset=dataset, preprocessor=preprocessor, split="train")


def _jpeg(rng, size_px, pad_kb):
    noise = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    file = io.BytesIO()
    noise.resize(size_px, Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue().ljust(1000 * pad_kb, b"\0")


def _wav(rng):
    file = io.BytesIO()
    soundfile.write(file, 0.1 * rng.standard_normal(16_000), 16_000, format="WAV")
    return file.getvalue()
