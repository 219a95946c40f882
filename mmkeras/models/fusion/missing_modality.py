"""Layers that drop modalities in training and replace missing ones."""

import keras
from keras import layers, ops

from mmkeras.layers.replica_dropout import ReplicaAwareRandom
from mmkeras.layers.saving import saved_as


@keras.saving.register_keras_serializable(package="mmkeras")
class ModalityDropout(ReplicaAwareRandom, layers.Layer):
    """Random absence of modalities in training: (B, M) presence to (B, M) presence.

    Each present modality is hidden with probability `rate`, independently; a row
    that would lose all of them keeps all it has.

    Source: Neverova et al., 2015, https://arxiv.org/abs/1501.00102 (ModDrop), which
    may hide all of them.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, present, training=False):
        if not training or self.rate == 0:
            return present
        uniform = self.draw_rows(self._draw, tuple(ops.shape(present)))
        kept = present * ops.cast(uniform >= self.rate, present.dtype)
        any_left = ops.max(kept, axis=1, keepdims=True)  # (B, 1)
        return ops.where(any_left > 0, kept, present)

    def _draw(self, shape):
        return keras.random.uniform(shape, seed=self.seed_generator)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@saved_as("AbsenceEmbedding")
class MissingEmbedding(layers.Layer):
    """Learned vector in the place of a missing branch.

    Shapes: (B, D) branch vector and (B, 1) presence, to (B, D). The branch vector of
    an absent row cannot affect the result, not even a NaN.
    """

    def build(self, vector_shape, present_shape):
        self.embedding = self.add_weight(
            name="embedding", shape=(vector_shape[-1],), initializer="zeros"
        )

    def call(self, vector, present):
        absent = ops.cast(self.embedding, vector.dtype)
        return ops.where(present > 0, vector, absent)


@saved_as("AbsenceZeros")
class ZeroMissing(layers.Layer):
    """Zeros in the place of a missing branch: (B, D), (B, 1) presence to (B, D)."""

    def call(self, vector, present):
        return ops.where(present > 0, vector, ops.zeros_like(vector))


@saved_as("AbsenceToken")
class MissingToken(layers.Layer):
    """One learned token in the place of the tokens of a missing branch.

    Shapes: (B, L, D) tokens, (B, L) bool mask and (B, 1) presence, to (B, L, D) and
    (B, L) bool, where an absent row has only its first token.
    """

    def build(self, tokens_shape, valid_shape, present_shape):
        self.embedding = self.add_weight(
            name="embedding", shape=(tokens_shape[-1],), initializer="zeros"
        )

    def call(self, tokens, valid, present):
        is_present = present > 0  # (B, 1)
        absent = ops.cast(self.embedding, tokens.dtype)
        first = ops.arange(tokens.shape[1]) == 0  # (L,)
        valid = ops.where(is_present, valid, first)
        return ops.where(is_present[:, :, None], tokens, absent), valid

    def compute_output_spec(self, tokens, valid, present):
        tokens = keras.KerasTensor(tokens.shape, self.compute_dtype)
        return tokens, keras.KerasTensor(valid.shape, "bool")

    def compute_mask(self, tokens, previous_mask):
        return None  # an encoder's mask would hide the token of an absent row


@saved_as("AsGiven")
class Passthrough(layers.Layer):
    """Identity with an unused presence: (B, D), (B, M) to (B, D).

    Used when `fusion.presence` is false, so that the model keeps the same inputs.
    """

    def compute_mask(self, branch, previous_mask):
        return None

    def call(self, branch, present):
        return branch
