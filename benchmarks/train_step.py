"""Training throughput of the reference model, compared with tensors in memory.

`fit` of the same model (ResNet50 trained too, 224 px, batch 8) from the input pipeline,
which decodes JPEGs, and from one batch in memory.
"""

import argparse
import tempfile
from pathlib import Path

import keras
import tensorflow as tf

from benchmarks.pairs import compare, end_times
from benchmarks.tables import prepare_batches
from mmkeras.config import Config, ImageConfig, TrainConfig
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
        config = Config(
            image=ImageConfig(weights="none"),
            train=TrainConfig(batch_size=arguments.batch, cache_mb=0),
        )
        batches = prepare_batches(Path(folder), config, 2 * rows)
        state = batches.preprocessor.state
        model = build_model(config, state)
        model.compile(
            optimizer=build_optimizer(config.train, 1e-3, batches.steps, 1),
            loss=build_loss(state.task, 0.1),
        )
        decoded = batches.train_batches(range(100)).take(arguments.steps)
        batch = next(iter(batches.train_batches([0]).cache()))
        ready = tf.data.Dataset.from_tensors(batch).repeat(arguments.steps)

        def run(batches):
            """Returns the rows per second, without the first step."""
            ends_s = end_times(model, "on_train_batch_end", batches)
            return (rows - arguments.batch) / (ends_s[-1] - ends_s[0])

        name = "training rows, against ready tensors"
        compare(name, lambda: run(decoded), lambda: run(ready), arguments.pairs)
    keras.backend.clear_session()


if __name__ == "__main__":
    main()
