"""Throughput of the input pipeline, compared with a bare decode-and-resize loop.

Both read the same JPEGs (500 x 375, quality 90) from the same TFRecord shards and
resize them to 224 x 224. The pipeline also checks sizes, reads orientation, masks
missing modalities, parses labels and builds the batches of `fit`.
"""

import tempfile
from pathlib import Path

import tensorflow as tf

from benchmarks.pairs import compare, rate
from benchmarks.tables import prepare_batches
from mmkeras.config import AugmentConfig, Config, ImageConfig, TableConfig, TrainConfig

ROWS, BATCH = 2_000, 32


def bare(files: list[str]) -> tf.data.Dataset:
    features = {"image": tf.io.FixedLenFeature([], tf.string)}

    def decode(record):
        data = tf.io.parse_single_example(record, features)["image"]
        return tf.image.resize(tf.io.decode_jpeg(data, channels=3), (224, 224))

    rows = tf.data.TFRecordDataset(files).map(decode, tf.data.AUTOTUNE)
    return rows.batch(BATCH).prefetch(tf.data.AUTOTUNE)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            table=TableConfig(modalities="image"),
            image=ImageConfig(weights="none"),
            augment=AugmentConfig(crop=0, colour=0),
            train=TrainConfig(batch_size=BATCH, cache_mb=0),
        )
        train = prepare_batches(Path(folder), config, ROWS, audio=False)
        loop = bare(train.dataset.files("train"))
        ours = train.eval_batches()

        def run(batches):
            return rate(train.rows, lambda: sum(1 for _ in batches))

        compare("images, against bare decode", lambda: run(ours), lambda: run(loop), 21)


if __name__ == "__main__":
    main()
