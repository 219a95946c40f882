"""Tiny tables with media files, and tiny runs trained once per test session."""

import csv
import io
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from filelock import FileLock
from PIL import Image

from mmkeras.config import (
    AudioConfig,
    Config,
    EvaluateConfig,
    FusionConfig,
    ImageConfig,
    TableConfig,
    TextConfig,
    TrainConfig,
)
from mmkeras.config.presets import small_concat
from tests.program_harness import output_of, to_argv

RATE_HZ = 16_000
# Colour, tone in Hz and words of each class.
CLASSES = {
    "red": ((220, 30, 40), 440, "warm fire"),
    "green": ((30, 200, 60), 880, "fresh grass"),
    "blue": ((20, 40, 230), 1760, "deep sea"),
}
FORTY = ["train"] * 24 + ["val"] * 8 + ["test"] * 8


def image(colour=(220, 30, 40), kind="PNG", size=(40, 36)) -> bytes:
    """Returns an image file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, tuple(colour)).save(file, kind)
    return file.getvalue()


def bomb() -> bytes:
    """Returns a few bytes of PNG whose header declares 200 megapixels."""
    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for content in (b"IHDR" + header, b"IDAT" + zlib.compress(b"\0"), b"IEND"):
        check = zlib.crc32(content)
        data += struct.pack(">I", len(content) - 4) + content
        data += struct.pack(">I", check)
    return data


def tone(hz=440, kind="WAV", subtype="PCM_16", rate_hz=RATE_HZ, seconds=0.2) -> bytes:
    """Returns an audio file of a tone; with two channels if `hz` is a pair."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    wave = 0.5 * np.sin(2 * np.pi * np.multiply.outer(t, hz))
    file = io.BytesIO()
    soundfile.write(file, wave, rate_hz, subtype, format=kind)
    return file.getvalue()


def faulty_tone(**options) -> bytes:
    """Returns a WAV whose data size counts the header; see `tone`."""
    data = tone(**options)
    return data[:40] + len(data).to_bytes(4, "little") + data[44:]


def vector(numbers) -> bytes:
    """Returns a .npy file."""
    file = io.BytesIO()
    np.save(file, np.asarray(numbers, np.float32))
    return file.getvalue()


def write_table(path: Path, rows: list[dict]) -> Path:
    """Writes a CSV; cells of bytes become files, named in the cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Surrogates in a text are written as bytes that are not UTF-8.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for i, row in enumerate(rows):
            cells = dict(row)
            for name, cell in row.items():
                if isinstance(cell, bytes):
                    end = ".npy" if cell.startswith(b"\x93NUMPY") else ".bin"
                    cells[name] = f"{i:03d}-{name}{end}"
                    (path.parent / cells[name]).write_bytes(cell)
            writer.writerow(cells)
    return path


def make_rows(splits=FORTY, classes=("red", "green"), seed=0) -> list[dict]:
    """Returns complete rows of alternating classes, each with different content."""
    rng, rows = np.random.default_rng(seed), []
    for i, split in enumerate(splits):
        label = classes[i % len(classes)]
        colour, hz, words = CLASSES[label]
        colour = np.clip(np.array(colour) + rng.integers(-20, 20, 3), 0, 255)
        rows.append(
            {
                "id": f"r{i:02d}",
                "split": split,
                "label": label,
                "text": f"{words} number {i}",
                "image": image(map(int, colour)),
                "audio": tone(float(hz + rng.integers(-40, 40))),
            }
        )
    return rows


def tiny_config(cache_dir: Path, **changes) -> Config:
    """Returns the small preset with minimal sizes.

    Example:
        tiny_config(tmp_path, train={"batch_size": 4})
    """
    train = TrainConfig(
        batch_size=8, passes=1, learning_rate=0.01, warmup_epochs=1.0, ema=0.8
    )
    config = replace(
        small_concat(),
        epochs=2,
        table=TableConfig(cache_dir=str(cache_dir), workers=2),
        image=ImageConfig(encoder="small_cnn", size_px=32, weights="none", width=2),
        text=TextConfig(tokens="word", vocab_size=16, units=8),
        audio=AudioConfig(clip_s=0.5, bands=16, mfccs=8, units=8),
        fusion=FusionConfig(units=8),
        train=replace(train, patience=0, restore_best=False),
        evaluate=EvaluateConfig(bootstrap_resamples=20, worst_errors=2),
    )
    for name, change in changes.items():
        if isinstance(change, dict):
            change = replace(getattr(config, name), **change)
        config = replace(config, **{name: change})
    return config


def text_model(
    cache_dir,
    task="multilabel",
    logits=(1.0, -2.0, 0.5),
    encoder="tfidf",
    column="text",
):
    """Returns an untrained text model that predicts about these logits for any row."""
    import keras

    from mmkeras.modalities.preprocessing_state import PreprocessingState
    from mmkeras.models.model import HEAD
    from tests.preset_models import new_model

    entry = {"type": "text"}
    if encoder == "vector":
        entry |= {"encoder": "vector", "vector_width": 2}
    config = tiny_config(cache_dir, text={"encoder": encoder})
    config = replace(config, columns={column: entry})
    state = PreprocessingState(
        branches={column: (column,)},
        columns={
            column: {"width": 2, "vocabulary": ["hi", "ho"], "idf": [1.0, 2.0]}
            if encoder != "vector"
            else {"width": 2}
        },
        task=task,
        classes=("a", "b", "c"),
        class_rows=(1, 1, 1),
    )
    model = new_model(config, state)
    kernel, bias = model.model.get_layer(HEAD).get_layer("logits").weights
    kernel.assign(keras.ops.zeros_like(kernel))
    bias.assign(logits)
    return model


def trained_run(factory) -> tuple[Path, Path]:
    """Returns the run folder and the table (40 rows) of a model trained once.

    The program's output is in output.txt next to the run folder. One test row has no
    audio and one a truncated image. Tests only read the run; a test that changes it
    takes a copy.
    """
    rows = make_rows()
    rows[33]["audio"] = ""
    rows[35]["image"] = rows[35]["image"][:60]
    return _train_once(factory, "trained", rows, epochs=6, on_bad_row="absent")


def aligned_run(factory) -> tuple[Path, Path]:
    """Returns the run folder and the table of a model with aligned modalities."""
    rows = make_rows()
    rows[33]["image"] = ""
    loss = {"text": 0.5, "text_image": 0.5, "width": 4}
    table = {"modalities": "text,image"}
    return _train_once(factory, "aligned", rows, epochs=8, loss=loss, table=table)


def regression_run(factory) -> tuple[Path, Path]:
    """Returns the run folder and the table of a regression: green rows are larger."""
    rows = make_rows()
    for i, row in enumerate(rows):
        row["label"] = f"{100 + 50 * (row['label'] == 'green') + i / 8:g}"
    rows[33]["image"] = ""
    changes = {"task": "regression", "table": {"modalities": "text,image"}}
    return _train_once(factory, "regression", rows, epochs=15, **changes)


def generator_run(factory) -> tuple[Path, Path]:
    """Returns the run folder and the table of a generator of captions of images.

    Even rows are red and odd ones green; each has two captions. The captions are
    aligned with the images.
    """
    rows = make_rows()
    for row in rows:
        colour = row.pop("label")
        row["caption"] = f"A {colour} image.|{colour} all over"
    changes = {
        "task": "generate",
        "epochs": 3,
        "table": {"label": "caption", "modalities": "image"},
        "fusion": {"kind": "concat"},
        "generate": {"width": 16, "layers": 1, "heads": 2, "beams": 2, "dropout": 0.0},
        "export": {"n_best": 2},
        "loss": {"text_image": 0.5, "width": 4},
        "image": {"width": 4},
        "train": {
            "batch_size": 16,
            "passes": 24,
            "learning_rate": 0.01,
            "warmup_epochs": 0.0,
        },
    }
    return _train_once(factory, "generator", rows, **changes)


def _train_once(factory, name: str, rows: list[dict], **changes) -> tuple[Path, Path]:
    """Trains in a folder that all processes of a test session share."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    base = base / name
    base.mkdir(exist_ok=True)
    folder, table = base / "run", base / "data" / "data.csv"
    with FileLock(base / "lock"):
        if not (base / "done").exists():
            from mmkeras.train import main
            from mmkeras.training.run_folder import write_config

            write_table(table, rows)
            write_config(base, tiny_config(base / "cache", **changes))
            output = output_of(main, run_flags(folder, table))
            (base / "output.txt").write_text(output)
            (base / "done").touch()
    return folder, table


def run_flags(folder: Path, table: Path) -> list[str]:
    """Returns the arguments of the train program for another run like a shared one."""
    flags = {"--data": table, "--output": folder}
    return to_argv(flags | {"--config": table.parents[1] / "config.yaml"})


def texts(splits=FORTY, **columns) -> list[dict]:
    """Returns rows of text of two classes; `columns` are the cells of more columns."""
    rows = [
        {"id": f"r{i:02d}", "split": split, "label": "ab"[i % 2]}
        | {"text": f"{'good bad'.split()[i % 2]} {i}"}
        for i, split in enumerate(splits)
    ]
    for name, cells in columns.items():
        for row, cell in zip(rows, cells, strict=True):
            row[name] = cell
    return rows
