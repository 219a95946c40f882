"""Predictions for the validation rows, from cached outputs of frozen encoders."""

import numpy as np
import tensorflow as tf

from mmkeras.data.dataset import Dataset
from mmkeras.data.feature_cache import frozen_features
from mmkeras.data.input_pipeline import Batches
from mmkeras.export.inference import TrainedModel
from mmkeras.models.model import backbones, with_outputs
from mmkeras.models.tasks import predicted_values
from mmkeras.schema import PROBABILITIES, VAL


def predict_validation(
    trained_model: TrainedModel, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """Returns targets and predictions of the validation rows, in the order of shards.

    They are (N, C) float32, in regression (N, 1) in the unit of the labels.

    Example:
        targets, probabilities = predict_validation(trained_model, dataset)
    """
    preprocessor, model = trained_model.preprocessor, trained_model.model
    features = frozen_features(backbones(model), dataset, preprocessor, VAL)
    batches = Batches(
        dataset=dataset, preprocessor=preprocessor, split=VAL, features=features
    )
    part = with_outputs(model, batches.feature_keys)
    predict = tf.function(
        lambda x: part(x, training=False)[PROBABILITIES], autograph=False
    )
    pairs = [(target, predict(x)) for x, target, _ in batches.eval_batches()]
    targets, outputs = (np.concatenate(column) for column in zip(*pairs, strict=True))
    state = trained_model.state
    return tuple(np.asarray(predicted_values(x, state)) for x in (targets, outputs))
