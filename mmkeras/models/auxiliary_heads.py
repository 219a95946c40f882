"""Auxiliary heads per modality: classifiers and embeddings for the training loss."""

import math
from collections.abc import Mapping, Sequence

import keras
from keras import layers, ops

from mmkeras.config import LossConfig
from mmkeras.layers.sequence import TokenPooling
from mmkeras.schema import EMBEDDINGS, MODALITIES

# Outputs of the head that only training uses.
UNIMODAL_PROBABILITIES = {m: f"{m}_probabilities" for m in MODALITIES}
ALIGNMENT_SCALE = "alignment_scale"

Branches = Mapping[str, keras.KerasTensor | Sequence[keras.KerasTensor]]


def unimodal_logits(modality: str, vector: keras.KerasTensor, units: int):
    """Applies a classifier to one modality: (B, D) to logits (B, units) float32."""
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
    """Builds the outputs whose weights in `config` are not 0.

    Args:
        branches: By modality, in the order of `present`: a vector (B, D), or tokens
            (B, L, D) and their mask (B, L).
        present: (B, M), 1.0 where the branch has data, else 0.0.
        units, activation: Those of each classifier.
        logits: By modality, logits that late fusion has already computed.

    Returns:
        By name: "text_probabilities" (B, units); "text_embedding" (B, config.width),
        of length 1, or zeros where absent; "alignment_scale" (B, 1).
    """
    modalities, outputs = list(branches), {}
    classifiers, aligned = config.classifiers(modalities), config.aligned(modalities)
    used = [m for m in modalities if m in classifiers or m in aligned]
    vectors = {m: _vector(m, branches[m]) for m in used}
    for m in classifiers:
        x = logits[m] if m in logits else unimodal_logits(m, vectors[m], units)
        name = UNIMODAL_PROBABILITIES[m]
        outputs[name] = layers.Activation(activation, dtype="float32", name=name)(x)
    for m in aligned:
        project = layers.Dense(config.width, name=f"{m}_aligned")
        column = present[:, modalities.index(m)][:, None]
        unit = UnitVector(dtype="float32", name=EMBEDDINGS[m])
        outputs[EMBEDDINGS[m]] = unit(project(vectors[m]), column)
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
    """Vectors scaled to length 1: (B, D), (B, 1) presence to (B, D), zeros if absent.

    A vector of zeros, which has no direction, counts as absent.
    """

    def call(self, vectors, present):
        length = ops.sqrt(ops.sum(ops.square(vectors), axis=1, keepdims=True))
        is_present = (present > 0) & (length > 1e-6)
        safe = ops.where(is_present, vectors, ops.ones_like(vectors))
        unit = ops.normalize(safe, axis=1)
        return ops.where(is_present, unit, ops.zeros_like(unit))


class ClippedScale(keras.constraints.Constraint):
    """Upper limit of 100 for a scale that is stored as its logarithm."""

    def __call__(self, log_scale):
        return ops.minimum(log_scale, math.log(100))


@keras.saving.register_keras_serializable(package="mmkeras")
class AlignmentScale(layers.Layer):
    """Inverse of a learned temperature, repeated per row: (B, D) to (B, 1).

    Source: Radford et al., 2021, https://arxiv.org/abs/2103.00020: starts at 1/0.07
    and is clipped to 100 after each step.
    """

    def build(self, shape):
        start = keras.initializers.Constant(math.log(1 / 0.07))
        self.log_scale = self.add_weight(
            name="log_scale", shape=(), initializer=start, constraint=ClippedScale()
        )

    def call(self, rows):
        return ops.exp(self.log_scale) * ops.ones_like(rows[:, :1])
