"""Training rows a second of the reference model, against ready tensors.

The same compiled Keras model (ResNet50 trained too, 224 px, batch 8) by `fit` from
our batches, decoded anew from JPEGs, and by `fit` from one batch held in memory.
"""

import argparse
import tempfile
import time
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.pairs import compare
from benchmarks.tables import write_table
from mmkeras.config import Config, ImageConfig, TableConfig, TrainConfig
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.data.input_pipeline import Batches
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.losses import build_loss
from mmkeras.models.model import build_model
from mmkeras.training.fit import build_optimizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = arguments.batch * arguments.steps
        table = write_table(Path(folder) / "rows", 2 * rows)
        config = Config(
            table=TableConfig(cache_dir=f"{folder}/cache"),
            image=ImageConfig(weights="none"),
            train=TrainConfig(batch_size=arguments.batch, cache_mb=0),
        )
        dataset = ingest(table, config)
        state = fit_preprocessing(dataset, config)
        batches = Batches(
            dataset=dataset,
            preprocessor=Preprocessor(config, state),
            split="train",
        )
        model = build_model(config, state)
        model.compile(
            optimizer=build_optimizer(config.train, 1e-3, batches.steps, 1),
            loss=build_loss(state.task, 0.1),
        )
        fed = batches.augmented(range(100)).take(arguments.steps)
        ready = next(iter(batches.augmented([0]).cache()))
        held = tf.data.Dataset.from_tensors(ready).repeat(arguments.steps)

        def run(batches):
            """Rows a second between the end of the first step and of the last."""
            ends = []
            note = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter())
            )
            model.fit(batches, verbose=0, shuffle=False, callbacks=[note])
            return (rows - arguments.batch) / (ends[-1] - ends[0])

        compare(
            "training rows, against ready tensors",
            lambda: run(fed),
            lambda: run(held),
            arguments.pairs,
        )
    keras.backend.clear_session()


if __name__ == "__main__":
    main()
