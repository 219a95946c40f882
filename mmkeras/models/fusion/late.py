"""Late fusion: one classifier a modality, averaged over those that a row has."""

from collections.abc import Sequence

import keras
from keras import layers, ops

from mmkeras.config import FusionConfig
from mmkeras.models.fusion.missing_modality import ModalityDropout

_LEAST = 1e-7  # probabilities nearer to 0 or 1 drown in float32


def average_classifiers(
    logits: Sequence[keras.KerasTensor],
    present: keras.KerasTensor,
    activation: str,
    config: FusionConfig,
) -> keras.KerasTensor:
    """Averages the probabilities of M classifiers: to logits (B, C) of the average.

    Args:
        logits: (B, C) each.
        present: (B, M); absent modalities have no say. Without `config.presence` all
            have.
        activation: softmax or sigmoid.
        config: `late` says whether all count alike or by learned weights.
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
    """Average of classifiers' probabilities, as logits; a prior where there is none.

    Shapes: (B, M, C) logits and (B, M) presence to (B, C) logits. A row that has no
    modality at all gets the learned prior.
    """

    def __init__(self, activation: str, weighted: bool, **kwargs):
        super().__init__(**kwargs)
        self.activation, self.weighted = activation, weighted

    def build(self, logits_shape, present_shape):
        self.prior = self.add_weight(
            name="prior", shape=(1, 1, logits_shape[2]), initializer="zeros"
        )
        if self.weighted:
            self.says = self.add_weight(
                name="says", shape=(logits_shape[1],), initializer="zeros"
            )

    def call(self, logits, present):
        logits = ops.where(present[..., None] > 0, logits, self.prior)  # (B, M, C)
        none = 1 - ops.max(present, axis=1, keepdims=True)  # (B, 1)
        weight = present + none  # a row without any averages the prior alone
        if self.weighted:
            weight = weight * ops.softmax(self.says)
        weight = weight / ops.sum(weight, axis=1, keepdims=True)
        softmax = self.activation == "softmax"
        each = ops.softmax(logits) if softmax else ops.sigmoid(logits)
        mean = ops.sum(weight[..., None] * each, axis=1)  # (B, C)
        mean = ops.clip(mean, _LEAST, 1 - _LEAST)
        return ops.log(mean) if softmax else ops.log(mean) - ops.log(1 - mean)

    def compute_output_shape(self, logits_shape, present_shape):
        return (logits_shape[0], logits_shape[2])

    def get_config(self):
        settings = {"activation": self.activation, "weighted": self.weighted}
        return {**super().get_config(), **settings}
