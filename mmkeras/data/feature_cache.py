"""Cache on disk for the outputs of a frozen encoder."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mmkeras.console import progress
from mmkeras.data.dataset import Dataset
from mmkeras.data.ingest import cache_dir
from mmkeras.data.input_pipeline import Features, branch_batches
from mmkeras.files import atomic_path
from mmkeras.modalities.preprocessor import Preprocessor


def frozen_encoders(
    encoders: Mapping[str, keras.Model], preprocessor: Preprocessor
) -> dict[str, keras.Model]:
    """Returns branch -> its encoder, of those that are frozen.

    `encoders` is key of a branch -> its encoder, as of `models.model.backbones`.
    """
    return {
        name: encoders[branch.key]
        for name, branch in preprocessor.branches.items()
        if branch.is_frozen and branch.key in encoders
    }


def frozen_features(
    encoders: Mapping[str, keras.Model],
    dataset: Dataset,
    preprocessor: Preprocessor,
    split: str,
    compute: bool = True,
) -> dict[str, Features]:
    """Returns branch -> outputs of its frozen encoder for the rows of a split.

    `encoders` is as for `frozen_encoders`. Outputs that are not in the cache are
    computed, or with `compute=False` left out.
    """
    find, result = cached_features if compute else _path, {}
    stored = dataset.parent or dataset
    for name, encoder in frozen_encoders(encoders, preprocessor).items():
        paths = tuple(
            find(encoder, stored, preprocessor, name, source)
            for source in dataset.sources(split)
        )
        if all(path.exists() for path in paths):
            result[name] = Features(paths, encoder.output_shape[1:])
    return result


def cached_features(
    encoder: keras.Model,
    dataset: Dataset,
    preprocessor: Preprocessor,
    branch: str,
    split: str,
) -> Path:
    """Returns a file with the encoder's outputs for the rows of a split.

    The file is (N, D) or (N, L, D) float32 without header, in the order of the shards.
    Its path has a hash of rows, settings and weights: outputs are computed once.
    """
    path = _path(encoder, dataset, preprocessor, branch, split)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = -(-dataset.rows[split] // preprocessor.config.train.read_rows)
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


def _path(encoder, dataset, preprocessor, branch, split) -> Path:
    config = preprocessor.config
    branch_settings = preprocessor.branches[branch].settings
    settings = (dataset.fingerprint, branch, branch_settings, config.train.precision)
    settings += encoder.output_shape[1:]  # a vector, or tokens by the same weights
    digest = hashlib.sha256(repr(settings).encode())
    for weight in encoder.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    folder = cache_dir(config) / f"features-{digest.hexdigest()[:24]}"
    return folder / f"{split}.f32"
