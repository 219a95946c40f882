"""Throughput of the input pipeline, compared with a bare decode-and-resize loop.

Both read the same JPEGs (500 x 375, quality 90) from the same TFRecord shards and
resize them to 224 x 224. The pipeline also checks sizes, reads orientation, masks
missing modalities, parses labels and builds the batches of `fit`.
"""

import tempfile
from pathlib import Path

import tensorflow as tf

from benchmarks.pairs import compare, rate
from benchmarks.tables import write_table
from mmkeras.config import AugmentConfig, Config, ImageConfig, TableConfig, TrainConfig
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.data.input_pipeline import Batches
from mmkeras.modalities.preprocessor import Preprocessor

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
        table = write_table(Path(folder) / "rows", ROWS, audio=False)
        config = Config(
            table=TableConfig(cache_dir=f"{folder}/cache", modalities="image"),
            image=ImageConfig(weights="none"),
            augment=AugmentConfig(crop=0, colour=0),
            train=TrainConfig(batch_size=BATCH, cache_mb=0),
        )
        dataset = ingest(table, config)
        preprocessor = Preprocessor(config, fit_preprocessing(dataset, config))
        batches = Batches(dataset=dataset, preprocessor=preprocessor, split="train")
        loop = bare(dataset.files("train"))
        ours = batches.eval_batches()

        def run(batches):
            return rate(dataset.rows["train"], lambda: sum(1 for _ in batches))

        compare("images, against bare decode", lambda: run(ours), lambda: run(loop), 21)


if __name__ == "__main__":
    main()
