"""What stands in a branch's place where a row has no data for it."""

import keras
from keras import layers, ops

from mmkeras.layers.replica_dropout import ReplicaAwareRandom
from mmkeras.layers.saving import saved_as


@keras.saving.register_keras_serializable(package="mmkeras")
class ModalityDropout(ReplicaAwareRandom, layers.Layer):
    """Hides modalities of training rows: (B, M) presence to (B, M) presence.

    Each one that is present is hidden with chance `rate`, on its own; a row whose
    every modality would be hidden keeps all it has.

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
        drawn = self.own_rows(self._draw, tuple(ops.shape(present)))
        kept = present * ops.cast(drawn >= self.rate, present.dtype)
        any_left = ops.max(kept, axis=1, keepdims=True)  # (B, 1)
        return ops.where(any_left > 0, kept, present)

    def _draw(self, shape):
        return keras.random.uniform(shape, seed=self.seed_generator)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@saved_as("AbsenceEmbedding")
class MissingEmbedding(layers.Layer):
    """Puts a learned vector where a branch has no data.

    Shapes: (B, D) branch vector and (B, 1) presence, to (B, D). What stands in the
    branch's vector of an absent row cannot reach the result, not even a NaN.
    """

    def build(self, vector_shape, present_shape):
        self.embedding = self.add_weight(
            name="embedding", shape=(vector_shape[-1],), initializer="zeros"
        )

    def call(self, vector, present):
        absent = ops.cast(self.embedding, vector.dtype)
        return ops.where(present > 0, vector, absent)

    def compute_output_shape(self, vector_shape, present_shape):
        return vector_shape


@saved_as("AbsenceZeros")
class ZeroMissing(layers.Layer):
    """Puts zeros where a branch has no data: (B, D), (B, 1) presence to (B, D)."""

    def call(self, vector, present):
        return ops.where(present > 0, vector, ops.zeros_like(vector))

    def compute_output_shape(self, vector_shape, present_shape):
        return vector_shape


@saved_as("AbsenceToken")
class MissingToken(layers.Layer):
    """Puts one learned token where a branch has no tokens of its own.

    Shapes: (B, L, D) tokens, (B, L) bool mask and (B, 1) presence, to (B, L, D) and
    (B, L) bool: an absent row has its one token in the first place.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, tokens_shape, valid_shape, present_shape):
        self.embedding = self.add_weight(
            name="embedding", shape=(tokens_shape[-1],), initializer="zeros"
        )

    def call(self, tokens, valid, present):
        there = present > 0  # (B, 1)
        absent = ops.cast(self.embedding, tokens.dtype)
        first = ops.arange(tokens.shape[1]) == 0  # (L,)
        valid = ops.where(there, valid, first)
        return ops.where(there[:, :, None], tokens, absent), valid

    def compute_output_spec(self, tokens, valid, present):
        tokens = keras.KerasTensor(tokens.shape, self.compute_dtype)
        return tokens, keras.KerasTensor(valid.shape, "bool")

    def compute_mask(self, tokens, previous_mask):
        return None  # an encoder's own would hide the token of an absent row


@saved_as("AsGiven")
class Passthrough(layers.Layer):
    """Leaves a branch as it is, whether it has data or not: (B, D), (B, M) to (B, D).

    For the model without presence, which has the input all the same.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, branch, previous_mask):
        return None

    def call(self, branch, present):
        return branch

    def compute_output_shape(self, branch_shape, present_shape):
        return branch_shape
