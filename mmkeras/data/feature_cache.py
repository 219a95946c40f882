"""Cache on disk for the outputs of a frozen encoder."""

import hashlib
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mmkeras.console import progress
from mmkeras.data.dataset import Dataset
from mmkeras.data.ingest import cache_dir
from mmkeras.data.input_pipeline import branch_batches
from mmkeras.files import atomic_path
from mmkeras.modalities.preprocessor import Preprocessor


def cached_features(
    encoder: keras.Model,
    dataset: Dataset,
    preprocessor: Preprocessor,
    branch: str,
    split: str,
) -> Path:
    """Returns a file with the encoder's outputs for the rows of a split.

    The file is (N, D) float32 without header, in the order of the shards. Its path
    has a hash of rows, settings and weights, so that outputs are computed once.
    """
    config = preprocessor.config
    branch_settings = preprocessor.branches[branch].settings
    settings = (dataset.fingerprint, branch, branch_settings, config.train.precision)
    digest = hashlib.sha256(repr(settings).encode())
    for weight in encoder.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    folder = cache_dir(config) / f"features-{digest.hexdigest()[:24]}"
    path = folder / f"{split}.f32"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    steps = -(-dataset.rows[split] // config.train.batch_size)
    batches = progress(
        branch_batches(dataset, preprocessor, branch, split),
        f"Features of {branch}, {split}",
        steps,
        unit="batch",
    )
    # Not predict_on_batch: with several replicas each would predict all rows.
    encode = tf.function(lambda x: encoder(x, training=False), autograph=False)
    with atomic_path(path) as tmp_path, tmp_path.open("wb") as file:
        for inputs in batches:
            file.write(encode(inputs).numpy().astype(np.float32).tobytes())
    return path
