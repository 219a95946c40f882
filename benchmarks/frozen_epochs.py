"""Epoch time with a frozen ResNet50, with and without its cached outputs.

The reference model at 224 px with random weights, on 196 training rows. The first epoch
is not measured.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import keras

from benchmarks.pairs import end_times
from benchmarks.tables import prepare_batches
from mmkeras.config import Config, ImageConfig, TrainConfig
from mmkeras.data.feature_cache import cached_features
from mmkeras.data.input_pipeline import Batches, Features
from mmkeras.models.losses import build_loss
from mmkeras.models.model import HEAD, backbones, build_model
from mmkeras.schema import PROBABILITIES
from mmkeras.training.fit import build_optimizer

ROWS, EPOCHS = 280, 5


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


def main() -> None:
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
