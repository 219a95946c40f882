"""Late fusion: the average of one classifier per modality, over those present."""

from collections.abc import Sequence

import keras
from keras import layers, ops

from mmkeras.config import FusionConfig
from mmkeras.models.fusion.missing_modality import ModalityDropout

_EPSILON = 1e-7  # probabilities nearer to 0 or 1 are lost in float32


def average_classifiers(
    logits: Sequence[keras.KerasTensor],
    present: keras.KerasTensor,
    activation: str,
    config: FusionConfig,
) -> keras.KerasTensor:
    """Averages the probabilities of M classifiers; returns (B, C) logits of the mean.

    `logits` are (B, C) per classifier; modalities absent in `present` (B, M) are left
    out of the mean, unless `config.presence` is false. `activation` is softmax or
    sigmoid, or linear for the mean of values; `config.late` chooses equal or learned
    weights.
    """
    if config.presence:
        hide = ModalityDropout(config.modality_dropout, name="modality_dropout")
        present = hide(present)
    else:
        present = ops.ones_like(present)
    layer = ClassifierAverage(
        activation, config.late == "weighted", dtype="float32", name="late_average"
    )
    return layer(ops.stack(list(logits), axis=1), present)


@keras.saving.register_keras_serializable(package="mmkeras")
class ClassifierAverage(layers.Layer):
    """Average of classifiers' probabilities, as logits.

    Shapes: (B, M, C) logits and (B, M) presence to (B, C) logits. A row without any
    modality gets a learned prior.
    """

    def __init__(self, activation: str, weighted: bool, **kwargs):
        super().__init__(**kwargs)
        self.activation, self.weighted = activation, weighted

    def build(self, logits_shape, present_shape):
        self.prior = self.add_weight(
            name="prior", shape=(1, 1, logits_shape[2]), initializer="zeros"
        )
        if self.weighted:
            self.weight_logits = self.add_weight(
                name="says", shape=(logits_shape[1],), initializer="zeros"
            )

    def call(self, logits, present):
        logits = ops.where(present[..., None] > 0, logits, self.prior)  # (B, M, C)
        none = 1 - ops.max(present, axis=1, keepdims=True)  # (B, 1)
        weight = present + none  # a row without any averages the prior alone
        if self.weighted:
            weight = weight * ops.softmax(self.weight_logits)
        weight = weight / ops.sum(weight, axis=1, keepdims=True)
        softmax = self.activation == "softmax"
        if self.activation == "linear":
            return ops.sum(weight[..., None] * logits, axis=1)
        each = ops.softmax(logits) if softmax else ops.sigmoid(logits)
        mean = ops.sum(weight[..., None] * each, axis=1)  # (B, C)
        mean = ops.clip(mean, _EPSILON, 1 - _EPSILON)
        return ops.log(mean) if softmax else ops.log(mean) - ops.log(1 - mean)

    def get_config(self):
        settings = {"activation": self.activation, "weighted": self.weighted}
        return {**super().get_config(), **settings}
