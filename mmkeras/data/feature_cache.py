"""Cache on disk for the outputs of a frozen image encoder."""

import hashlib
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from mmkeras.data.dataset import Dataset
from mmkeras.data.ingest import cache_dir
from mmkeras.data.input_pipeline import image_batches
from mmkeras.files import atomic_path
from mmkeras.modalities.preprocessor import Preprocessor


def image_vectors(
    encoder: keras.Model, dataset: Dataset, preprocessor: Preprocessor, split: str
) -> Path:
    """Returns a file with the encoder's outputs for the rows of a split.

    The file is (N, D) float32 without header, in the order of the shards. Its path
    has a hash of rows, settings and weights, so that outputs are computed once.
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
    steps = -(-dataset.rows[split] // config.train.batch_size)
    batches = tqdm(
        image_batches(dataset, preprocessor, split),
        f"Image vectors of {split}",
        steps,
        unit="batch",
        disable=None,
    )
    # Not predict_on_batch: with several replicas each would predict all rows.
    encode = tf.function(lambda x: encoder(x, training=False), autograph=False)
    with atomic_path(path) as tmp_path, tmp_path.open("wb") as file:
        for pixels in batches:
            file.write(encode(pixels).numpy().astype(np.float32).tobytes())
    return path
