"""Training on cached outputs of a frozen encoder.

An epoch of the reference model at 224 px with random weights on 196 rows, with a frozen
ResNet50 whose outputs are cached or not; the first epoch is not measured. Then 30
epochs on 10,000 rows of cached vectors, with checkpoints and validation, compared with
Keras' `fit` of the same model on arrays in memory.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from benchmarks.pairs import end_times
from benchmarks.tables import prepare_batches
from mmkeras.config import Config, ImageConfig, TableConfig, TextConfig, TrainConfig
from mmkeras.config.presets import pretrained_small
from mmkeras.data.feature_cache import cached_features
from mmkeras.data.input_pipeline import Batches, Features
from mmkeras.models.losses import build_loss
from mmkeras.models.model import HEAD, backbones, build_model
from mmkeras.schema import PROBABILITIES
from mmkeras.training.fit import build_optimizer, fit

ROWS, EPOCHS = 280, 5
MANY_ROWS, WIDTH = 14_286, 1280  # of which 10,000 are for training


def epoch_seconds(model: keras.Model, batches: Batches, epochs: int) -> float:
    """Trains; returns the mean seconds of the epochs after the first."""
    model.compile(
        optimizer=build_optimizer(batches.config.train, 1e-3, batches.steps, epochs),
        loss=build_loss(batches.preprocessor.state.task, 0.1),
    )
    settings = {"epochs": epochs, "steps_per_epoch": batches.steps}
    rows = batches.train_batches(range(epochs))
    ends_s = end_times(model, "on_epoch_end", rows, **settings)
    return (ends_s[-1] - ends_s[0]) / (epochs - 1)


def measure_many(folder: Path) -> None:
    """Prints the time of a run on cached vectors, and of Keras on arrays."""
    config = pretrained_small()
    image = ImageConfig(encoder="efficientnetb0", weights="none", frozen="yes")
    table = TableConfig(modalities="image")
    config = replace(config, image=image, text=TextConfig(), table=table)
    settings = {"size_px": (32, 24), "audio": False}
    train = prepare_batches(folder, config, MANY_ROWS, **settings)
    vectors = np.random.default_rng(0)
    splits = {}
    for split in ("train", "val"):
        batches = replace(train, split=split)
        path = folder / f"{split}.f32"
        vectors.standard_normal((batches.rows, WIDTH), np.float32).tofile(path)
        splits[split] = replace(
            batches, features={"image": Features((path,), (WIDTH,))}
        )
    train, val = splits["train"], splits["val"]
    model = build_model(train.config, train.preprocessor.state)
    start = time.perf_counter()
    fit(model, train, val, folder / "checkpoints", folder / "logs")
    ours_s = time.perf_counter() - start
    print(
        f"{train.config.epochs} epochs of {train.rows:,} rows of cached vectors: "
        f"{ours_s:.1f} s"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        measure_many(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            image=ImageConfig(weights="none", frozen="yes"),
            train=TrainConfig(batch_size=32),
        )
        plain = prepare_batches(Path(folder), config, ROWS)
        model = build_model(plain.config, plain.preprocessor.state)
        encoder = backbones(model)["image"]
        start = time.perf_counter()
        rows = (plain.dataset, plain.preprocessor, "image", "train")
        path = cached_features(encoder, *rows)
        vectors_s = time.perf_counter() - start
        cached = replace(plain, features={"image": Features((path,), (2048,))})
        head = model.get_layer(HEAD)
        head = keras.Model(head.input, head.output[PROBABILITIES])
        cached_s = epoch_seconds(head, cached, EPOCHS)
        plain_s = epoch_seconds(model, plain, 2)
        print(
            f"an epoch of {plain.rows} rows: {cached_s:.2f} s cached, "
            f"{plain_s:.2f} s not, ratio {plain_s / cached_s:.0f}; computing the "
            f"vectors once took {vectors_s:.1f} s"
        )


if __name__ == "__main__":
    main()
