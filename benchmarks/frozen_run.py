"""Cost of a run with a frozen encoder, compared with a plain pass of the encoder.

The encoder of `pretrained-small` with random weights, on images of 320 x 240 pixels.
The run reads and decodes the rows, computes and caches their vectors, and trains the
head for 30 epochs. The plain pass is the same encoder on the decoded images, which are
in memory already.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.tables import prepare_batches
from mmkeras.cli import run_program
from mmkeras.config import TableConfig, TextConfig
from mmkeras.config.presets import pretrained_small
from mmkeras.data.feature_cache import frozen_features
from mmkeras.data.input_pipeline import branch_batches
from mmkeras.models.model import backbones, build_model
from mmkeras.training.fit import fit


def main(argv) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=3000)
    rows = parser.parse_args(argv).rows
    config = pretrained_small()
    image = replace(config.image, weights="none", frozen="yes")
    table = TableConfig(modalities="image")
    config = replace(config, image=image, text=TextConfig(), table=table)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = {"size_px": (320, 240), "audio": False}
        train = prepare_batches(folder, config, rows, **settings)
        val = replace(train, split="val")
        model = build_model(train.config, train.preprocessor.state)
        encoders = backbones(model)
        encode = tf.function(lambda x: encoders["image"](x, training=False))
        preprocessor = train.preprocessor
        images = np.concatenate(
            list(branch_batches(train.dataset, preprocessor, "image", "train"))
        )
        encode(images[:32])
        start = time.perf_counter()
        for i in range(0, len(images), 32):
            encode(images[i : i + 32])
        rows = train.rows + val.rows
        plain_s = (time.perf_counter() - start) * rows / train.rows
        start = time.perf_counter()
        train, val = (
            replace(
                part,
                features=frozen_features(
                    encoders, part.dataset, preprocessor, part.split
                ),
            )
            for part in (train, val)
        )
        cached_s = time.perf_counter() - start
        fit(model, train, val, folder / "checkpoints", folder / "logs")
        run_s = time.perf_counter() - start
    print(
        f"{rows:,} rows: vectors {cached_s:.1f} s, with training {run_s:.1f} s; plain "
        f"pass {plain_s:.1f} s, ratio {run_s / plain_s:.2f}"
    )


if __name__ == "__main__":
    run_program(main)
