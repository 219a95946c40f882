"""Input features of the linear baseline, read from a dataset."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import tensorflow as tf

from mmkeras.data.dataset import Dataset
from mmkeras.data.feature_cache import frozen_encoders, frozen_features
from mmkeras.data.input_pipeline import Batches
from mmkeras.export.inference import TrainedModel
from mmkeras.modalities.preprocessing_state import GENERATE
from mmkeras.models.model import backbones
from mmkeras.models.tasks import predicted_values
from mmkeras.schema import PRESENT


def read_baseline_features(
    trained_model: TrainedModel,
    dataset: Dataset,
    split: str,
    rows: int,
    encoded: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Reads the first `rows` rows of a split.

    `encoded` is key of a branch -> outputs of its encoder for these rows, if they are
    known already. Else those of frozen encoders come from the cache, or are computed.

    Returns:
        Blocks of features as name -> (N, D): the outputs of a frozen encoder, averaged
        over tokens, or `linear_features` of the branch; zeros where it is absent; and
        which are present. Targets are (N, C), in regression (N, 1), and of a generator
        token ids.
    """
    preprocessor = trained_model.preprocessor
    encoders = backbones(trained_model.model)
    features = {}
    if not encoded:
        features = frozen_features(encoders, dataset, preprocessor, split, False)
    batches = Batches(
        dataset=dataset, preprocessor=preprocessor, split=split, features=features
    )
    frozen = {
        preprocessor.branches[name].key: encoder
        for name, encoder in frozen_encoders(encoders, preprocessor).items()
    }
    encoded = {key: x for key, x in encoded.items() if key in frozen}
    known = {*batches.feature_keys, *encoded}
    parts, targets, size = [], [], 0
    for inputs, target, _ in batches.eval_batches():
        end = size + len(target)
        inputs = dict(inputs)
        for key in frozen.keys() - known:
            inputs[key] = frozen[key](inputs[key], training=False)
        inputs |= {name: tf.constant(x[size:end]) for name, x in encoded.items()}
        inputs = {name: x.numpy() for name, x in inputs.items()}
        parts.append(_features(inputs, trained_model, frozen))
        targets.append(target.numpy())
        size = end
        if size >= rows:
            break
    targets, state = np.concatenate(targets), trained_model.state
    if state.task != GENERATE:
        targets = predicted_values(targets, state)
    blocks = {k: np.concatenate([p[k] for p in parts])[:rows] for k in parts[0]}
    return blocks, np.asarray(targets)[:rows]


def _features(inputs, trained_model, frozen) -> dict[str, np.ndarray]:
    """Returns (B, D) blocks of a batch."""
    branches, state = trained_model.preprocessor.branches, trained_model.state
    blocks, present = {}, inputs[PRESENT]
    for i, (name, branch) in enumerate(branches.items()):
        x = inputs[branch.key]
        if branch.key in frozen:
            x = x.mean(axis=1) if x.ndim == 3 else x
        else:
            x = branch.linear_features(x, state.columns)
        blocks[name] = x * present[:, i : i + 1]
    return {**blocks, PRESENT: present}
