"""Beside the fused classifier: what is trained of single modalities."""

import math
from collections.abc import Mapping, Sequence

import keras
from keras import layers, ops

from mmkeras.config import LossConfig
from mmkeras.layers.sequence import TokenPooling
from mmkeras.schema import EMBEDDINGS, MODALITIES

# Outputs of the head for training alone.
UNIMODAL_PROBABILITIES = {m: f"{m}_probabilities" for m in MODALITIES}
ALIGNMENT_SCALE = "alignment_scale"

Branches = Mapping[str, keras.KerasTensor | Sequence[keras.KerasTensor]]


def unimodal_logits(modality: str, vector: keras.KerasTensor, units: int):
    """The classifier on one modality: (B, D) to logits (B, units) float32."""
    dense = layers.Dense(units, dtype="float32", name=f"{modality}_logits")
    return dense(vector)


def auxiliary_outputs(
    branches: Branches,
    present: keras.KerasTensor,
    config: LossConfig,
    *,
    units: int,
    activation: str,
    logits: Mapping[str, keras.KerasTensor],
) -> dict[str, keras.KerasTensor]:
    """Makes the outputs that `config` asks for; none where its weights are 0.

    Args:
        branches: By modality, in the order of `present`: a vector (B, D), or tokens
            (B, L, D) and their mask (B, L).
        present: (B, M), 1.0 where the branch has data, else 0.0.
        config: λ and w of each.
        units: Of the classifiers.
        activation: softmax or sigmoid.
        logits: Of classifiers that fusion has already, by modality.

    Returns:
        By name: "text_probabilities" (B, units); "text_embedding" (B, config.width),
        of length 1, or zeros where it is absent; "alignment_scale" (B, 1).
    """
    modalities, outputs = list(branches), {}
    classifiers, aligned = config.classifiers(modalities), config.aligned(modalities)
    used = [m for m in modalities if m in classifiers or m in aligned]
    vectors = {m: _vector(m, branches[m]) for m in used}
    for m in classifiers:
        own = logits[m] if m in logits else unimodal_logits(m, vectors[m], units)
        name = UNIMODAL_PROBABILITIES[m]
        outputs[name] = layers.Activation(activation, dtype="float32", name=name)(own)
    for m in aligned:
        project = layers.Dense(config.width, name=f"{m}_aligned")
        there = present[:, modalities.index(m)][:, None]
        unit = UnitVector(dtype="float32", name=EMBEDDINGS[m])
        outputs[EMBEDDINGS[m]] = unit(project(vectors[m]), there)
    if aligned and config.alignment == "contrastive":
        scale = AlignmentScale(dtype="float32", name=ALIGNMENT_SCALE)
        outputs[ALIGNMENT_SCALE] = scale(present)
    return outputs


def _vector(modality, branch):
    if not isinstance(branch, list | tuple):
        return branch
    return TokenPooling(name=f"{modality}_single")(*branch)


@keras.saving.register_keras_serializable(package="mmkeras")
class UnitVector(layers.Layer):
    """Brings vectors to length 1: (B, D), (B, 1) presence to (B, D), zeros if absent.

    A vector of zeros, which has no direction, counts as absent.
    """

    def call(self, vectors, present):
        length = ops.sqrt(ops.sum(ops.square(vectors), axis=1, keepdims=True))
        there = (present > 0) & (length > 1e-6)
        safe = ops.where(there, vectors, ops.ones_like(vectors))
        unit = ops.normalize(safe, axis=1)
        return ops.where(there, unit, ops.zeros_like(unit))

    def compute_output_shape(self, vectors_shape, present_shape):
        return vectors_shape


class ClippedScale(keras.constraints.Constraint):
    """Keeps the logarithm of a scale at that of 100 or below."""

    def __call__(self, log_scale):
        return ops.minimum(log_scale, math.log(100))


@keras.saving.register_keras_serializable(package="mmkeras")
class AlignmentScale(layers.Layer):
    """The inverse of a learned temperature, once a row: (B, D) to (B, 1).

    Source: Radford et al., 2021, https://arxiv.org/abs/2103.00020: 1/0.07 at first,
    and never above 100 after a step.
    """

    def build(self, shape):
        first = keras.initializers.Constant(math.log(1 / 0.07))
        self.log_scale = self.add_weight(
            name="log_scale", shape=(), initializer=first, constraint=ClippedScale()
        )

    def call(self, rows):
        return ops.exp(self.log_scale) * ops.ones_like(rows[:, :1])

    def compute_output_shape(self, shape):
        return (shape[0], 1)
