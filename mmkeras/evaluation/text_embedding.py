"""Vectors of texts that are in the form of a generator's label."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from mmkeras.export.inference import TrainedModel, build_embed_text
from mmkeras.schema import EMBEDDING


def build_embed_texts(
    trained_model: TrainedModel,
) -> Callable[[Sequence[str]], np.ndarray]:
    """Builds the function from texts to their aligned vectors, (N, W) float32.

    A text without a token has a vector of zeros. The model is a generator whose label
    is aligned with branches.

    Example:
        build_embed_texts(load_trained(Path("runs/a")))(["a red square"])
    """
    spec = tf.TensorSpec([None], tf.string)
    embed = tf.function(build_embed_text(trained_model), [spec], autograph=False)

    def embed_texts(texts):
        return embed(tf.constant(texts, tf.string, [len(texts)]))[EMBEDDING].numpy()

    return embed_texts
