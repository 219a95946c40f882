"""A frozen image encoder's output, computed once and kept on disk."""

import hashlib
import os
import uuid
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from mmkeras.data.dataset import Dataset
from mmkeras.data.ingest import cache_dir
from mmkeras.data.input_pipeline import image_batches
from mmkeras.modalities.preprocessor import Preprocessor


def image_vectors(
    encoder: keras.Model, dataset: Dataset, preprocessor: Preprocessor, split: str
) -> Path:
    """Returns the file of the encoder's output for each row of a split.

    The file is (N, D) float32 without header, in the order of the shards. Its name
    holds the hash of rows, settings and weights: the same ones are computed once.
    """
    config = preprocessor.config
    settings = (dataset.fingerprint, config.image, config.train.precision)
    digest = hashlib.sha256(repr(settings).encode())
    for weight in encoder.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    folder = cache_dir(config) / f"image-vectors-{digest.hexdigest()[:24]}"
    path = folder / f"{split}.f32"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{split}-{uuid.uuid4().hex}.partial"
    steps = -(-dataset.rows[split] // config.train.batch_size)
    batches = tqdm(
        image_batches(dataset, preprocessor, split),
        f"Image vectors of {split}",
        steps,
        unit="batch",
        disable=None,
    )
    # Not predict_on_batch: of several replicas each would answer for all rows.
    encode = tf.function(lambda x: encoder(x, training=False), autograph=False)
    with aside.open("wb") as file:
        for pixels in batches:
            file.write(encode(pixels).numpy().astype(np.float32).tobytes())
    os.replace(aside, path)
    return path
