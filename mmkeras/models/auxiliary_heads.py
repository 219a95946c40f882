"""Auxiliary heads per branch: classifiers and embeddings for the training loss."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import keras
from keras import layers, ops

from mmkeras.config import Config
from mmkeras.layers.sequence import TokenPooling
from mmkeras.layers.unit_vector import UnitVector
from mmkeras.modalities.branch import Branch
from mmkeras.modalities.columns import branch_types
from mmkeras.schema import embedding_name

# Output of the head that only training uses, as are those of `probabilities_name`.
ALIGNMENT_SCALE = "alignment_scale"

Encoded = Mapping[str, keras.KerasTensor | Sequence[keras.KerasTensor]]


def probabilities_name(branch: str) -> str:
    """Returns the name of the output of a branch's auxiliary classifier."""
    return f"{branch}_probabilities"


def unimodal_logits(key: str, vector: keras.KerasTensor, units: int):
    """Applies a classifier to one branch: (B, D) to logits (B, units) float32."""
    return layers.Dense(units, dtype="float32", name=f"{key}_logits")(vector)


def auxiliary_outputs(
    branches: Sequence[Branch],
    encoded: Encoded,
    present: keras.KerasTensor,
    config: Config,
    *,
    units: int = 0,
    activation: str = "",
    logits: Mapping[str, keras.KerasTensor] = MappingProxyType({}),
) -> dict[str, keras.KerasTensor]:
    """Builds the outputs whose weights in `config.loss` are not 0.

    Args:
        branches: Those of the model, in the order of `present`.
        encoded: By branch: a vector (B, D), or tokens (B, L, D) and their mask (B, L).
        present: (B, M), 1.0 where the branch has data, else 0.0.
        units, activation: Those of each classifier.
        logits: By branch, logits that late fusion has already computed.

    Returns:
        By name: "text_probabilities" (B, units); "text_embedding" (B, loss.width), of
        length 1, or zeros where absent; "alignment_scale" (B, 1).
    """
    names, outputs = [branch.name for branch in branches], {}
    types, keys = branch_types(branches, config), {b.name: b.key for b in branches}
    config = config.loss
    classifiers = config.classifiers(types)
    aligned = [name for name in config.aligned(types) if name in keys]
    used = [name for name in names if name in classifiers or name in aligned]
    vectors = {name: _vector(keys[name], encoded[name]) for name in used}
    for name in classifiers:
        x = logits.get(name)
        x = unimodal_logits(keys[name], vectors[name], units) if x is None else x
        layer = probabilities_name(keys[name])
        activate = layers.Activation(activation, dtype="float32", name=layer)
        outputs[probabilities_name(name)] = activate(x)
    for name in aligned:
        project = layers.Dense(config.width, name=f"{keys[name]}_aligned")
        column = present[:, names.index(name)][:, None]
        unit = UnitVector(dtype="float32", name=embedding_name(keys[name]))
        outputs[embedding_name(name)] = unit(project(vectors[name]), column)
    if aligned and config.alignment == "contrastive":
        scale = AlignmentScale(dtype="float32", name=ALIGNMENT_SCALE)
        outputs[ALIGNMENT_SCALE] = scale(present)
    return outputs


def _vector(key, branch):
    if not isinstance(branch, list | tuple):
        return branch
    return TokenPooling(name=f"{key}_single")(*branch)


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
