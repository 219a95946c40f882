"""Training of a linear model: logistic or ridge regression of the fused vectors."""

import keras
import numpy as np
import tensorflow as tf

from mmkeras.console import say
from mmkeras.data.input_pipeline import Batches
from mmkeras.evaluation.baselines import fit_logistic_regression
from mmkeras.evaluation.ridge import fit_ridge
from mmkeras.modalities.preprocessing_state import BINARY, REGRESSION
from mmkeras.models.model import HEAD, with_outputs
from mmkeras.models.tasks import class_probabilities
from mmkeras.schema import EMBEDDING

_MAX_ROWS = 20_000  # 1,411 features of 8 bytes each: 230 MB
_MAX_ITERATIONS = 5000  # a few hundred reach convergence


def fit_linear(model: keras.Model, train: Batches) -> None:
    """Fits the classifier of a new model with fusion.kind=linear by scikit-learn.

    The first 20,000 training rows are used, in the order of the shards, which is
    random.
    """
    head, state = model.get_layer(HEAD), train.preprocessor.state
    features, targets = _read_features(model, train)
    blocks = head.get_layer("concatenate").input
    ends = np.cumsum([block.shape[1] for block in blocks])[:-1]
    split = dict(enumerate(np.split(features, ends, axis=1)))
    seed = train.config.seed
    if state.task == REGRESSION:
        name = "Ridge"
        regression = fit_ridge(split, targets, seed, max_rows=_MAX_ROWS)
    else:
        name = "Logistic"
        regression = fit_logistic_regression(
            split,
            np.asarray(class_probabilities(targets, state.task)),
            state.task,
            seed,
            max_rows=_MAX_ROWS,
            max_iterations=_MAX_ITERATIONS,
        )
    kernel, bias = regression.kernel, regression.bias
    if state.task == BINARY:  # one logit instead of two
        kernel, bias = (x[..., 1:] - x[..., :1] for x in (kernel, bias))
    head.get_layer("fused").set_weights([regression.mean, regression.deviation])
    head.get_layer("logits").set_weights([kernel, bias])
    iterations = f", {regression.iterations:,} iterations"
    say(
        f"{name} regression: {len(features):,} of {train.rows:,} training rows, "
        f"{features.shape[1]:,} features{iterations * (state.task != REGRESSION)}."
    )


def _read_features(model, train) -> tuple[np.ndarray, np.ndarray]:
    """Returns fused vectors (N, D), before they are standardized, and targets."""
    part = with_outputs(model, train.feature_keys)
    fuse = tf.function(lambda x: part(x, training=False)[EMBEDDING], autograph=False)
    features, targets = [], []
    for inputs, target, _ in train.eval_batches():
        features.append(fuse(inputs).numpy())
        targets.append(target.numpy())
        if len(features) * train.config.train.batch_size >= _MAX_ROWS:
            break
    return np.concatenate(features), np.concatenate(targets)
