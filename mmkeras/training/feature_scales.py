"""Scales of the vectors of frozen encoders, by the training rows."""

from dataclasses import replace

import keras
import numpy as np

from mmkeras.data.input_pipeline import Batches
from mmkeras.modalities.preprocessing_state import Moments, scale_state
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.model import scale_layers
from mmkeras.schema import PRESENT


def fit_feature_scales(model: keras.Model, train: Batches) -> None:
    """Sets mean and deviation of the layers that standardize cached features.

    Rows without the modality are left out.

    Example:
        fit_feature_scales(model, train)  # before `fit`
    """
    layers = scale_layers(model)
    for name, features in train.features.items():
        key = train.preprocessor.branches[name].key
        if key in layers:
            scale = scale_state(_measure(train, name), features.shape[0])
            weights = [scale["mean"], scale["deviation"]]
            layers[key].set_weights([np.array(x, np.float32) for x in weights])


def _measure(train, name) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns mean and deviation (D,) of a branch; None without any row that has it."""
    config, state = train.preprocessor.config, train.preprocessor.state
    state = replace(state, branches={name: state.branches[name]})
    features = {name: train.features[name]}
    alone = Preprocessor(config, state)
    alone = replace(train, preprocessor=alone, features=features)
    key, moments = alone.preprocessor.branches[name].key, Moments()
    for inputs, *_ in alone.eval_batches():
        vectors, present = inputs[key].numpy(), inputs[PRESENT].numpy()[:, 0]
        moments.add(vectors[present > 0])
    return moments.result()
