"""Overhead per epoch on a small table, compared with tensors in memory.

`fit` of the small preset on 28 rows, with 8 for validation, from the input pipeline and
from tensors of the same shapes.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.pairs import compare, end_times
from benchmarks.tables import prepare_batches
from mmkeras.config.presets import small_concat
from mmkeras.models.losses import build_loss, build_metrics
from mmkeras.models.model import build_model
from mmkeras.training.fit import build_optimizer

BATCH, ROWS = 8, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--pairs", type=int, default=5)
    arguments = parser.parse_args()
    epochs = range(arguments.epochs)
    keras.utils.set_random_seed(1)
    tf.config.experimental.enable_op_determinism()  # as in training on CPUs
    with tempfile.TemporaryDirectory() as folder:
        config = small_concat()
        config = replace(config, train=replace(config.train, batch_size=BATCH))
        train = prepare_batches(Path(folder), config, ROWS)
        val, state = replace(train, split="val"), train.preprocessor.state
        model = build_model(config, state)
        model.compile(
            optimizer=build_optimizer(config.train, 1e-3, train.steps, len(epochs)),
            loss=build_loss(state.task, 0.1),
            metrics=build_metrics(state.task, len(state.classes)),
        )
        ready = [
            tf.data.Dataset.from_tensors(next(iter(batches))).repeat(steps)
            for batches, steps in (
                (train.train_batches([0]), train.steps * len(epochs)),
                (val.eval_batches(), -(-val.rows // BATCH)),
            )
        ]

        def run(batches, validation):
            """Returns the epochs per second, without the first epoch."""
            ends_s = end_times(
                model,
                "on_epoch_end",
                batches,
                validation_data=validation,
                epochs=len(epochs),
                steps_per_epoch=train.steps,
            )
            return (len(epochs) - 1) / (ends_s[-1] - ends_s[0])

        compare(
            f"epochs of {train.rows} rows, against ready tensors",
            lambda: run(train.train_batches(epochs), val.eval_batches(again=True)),
            lambda: run(*ready),
            arguments.pairs,
        )
    keras.backend.clear_session()


if __name__ == "__main__":
    main()
