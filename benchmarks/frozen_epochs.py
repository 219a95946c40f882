"""Seconds an epoch with a frozen ResNet50 whose output is cached, against without.

The reference model at 224 px without weights of its own (the time is the same), 200
training rows; the cached epochs are those behind the first.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import keras

from benchmarks.tables import write_table
from mmkeras.config import Config, ImageConfig, TableConfig
from mmkeras.data.feature_cache import image_vectors
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.data.input_pipeline import Batches
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.losses import build_loss
from mmkeras.models.model import HEAD, IMAGE_ENCODER, build_model
from mmkeras.schema import PROBABILITIES
from mmkeras.training.fit import build_optimizer

ROWS, EPOCHS = 280, 5


def epoch_seconds(model: keras.Model, batches: Batches, epochs: int) -> float:
    """Trains and returns the mean seconds of the epochs behind the first."""
    ends = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter())
    )
    model.compile(
        optimizer=build_optimizer(batches.config.train, 1e-3, batches.steps, epochs),
        loss=build_loss(batches.preprocessor.state.task, 0.1),
    )
    model.fit(
        batches.augmented(range(epochs)),
        epochs=epochs,
        steps_per_epoch=batches.steps,
        shuffle=False,
        callbacks=[note],
        verbose=0,
    )
    return (ends[-1] - ends[0]) / (epochs - 1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            table=TableConfig(cache_dir=f"{folder}/cache"),
            image=ImageConfig(weights="none", frozen="yes"),
        )
        dataset = ingest(write_table(Path(folder) / "rows", ROWS), config)
        state = fit_preprocessing(dataset, config)
        preprocessor = Preprocessor(config, state)
        model = build_model(config, state)
        encoder = model.get_layer(IMAGE_ENCODER)
        plain = Batches(dataset=dataset, preprocessor=preprocessor, split="train")
        start = time.perf_counter()
        path = image_vectors(encoder, dataset, preprocessor, "train")
        once = time.perf_counter() - start
        cached = replace(plain, image_vectors=path, image_shape=(2048,))
        head = model.get_layer(HEAD)
        head = keras.Model(head.input, head.output[PROBABILITIES])
        fast = epoch_seconds(head, cached, EPOCHS)
        slow = epoch_seconds(model, plain, 2)
        print(
            f"an epoch of {dataset.rows['train']} rows: {fast:.2f} s cached, "
            f"{slow:.2f} s not, ratio {slow / fast:.0f}; computing the vectors once "
            f"took {once:.1f} s"
        )


if __name__ == "__main__":
    main()
