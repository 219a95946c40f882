"""Fusion: vectors and their presence in, one vector out. Knows no modality by name."""

from collections.abc import Sequence

import keras
from keras import layers, ops

from mmkeras.config import FusionConfig
from mmkeras.dropout import Draws, Dropout


@keras.saving.register_keras_serializable(package="mmkeras")
class ModalityDropout(Draws, layers.Layer):
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


@keras.saving.register_keras_serializable(package="mmkeras")
class AbsenceEmbedding(layers.Layer):
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


def fuse(
    vectors: Sequence[keras.KerasTensor],
    present: keras.KerasTensor,
    config: FusionConfig,
) -> keras.KerasTensor:
    """Concatenates branch vectors, each absent one by its learned embedding.

    Shapes: `vectors` are M tensors (B, D_m), widths may differ; `present` is
    (B, M), 1.0 where the branch has data, else 0.0; the result is
    (B, config.units).
    """
    if len(vectors) != present.shape[1]:
        raise ValueError(
            f"`present` must have one column per branch: {len(vectors)} branches, "
            f"received present.shape={present.shape}."
        )
    present = ModalityDropout(config.modality_dropout, name="modality_dropout")(present)
    known = [
        AbsenceEmbedding(name=f"absence_{i}")(vector, present[:, i : i + 1])
        for i, vector in enumerate(vectors)
    ]
    x = layers.Concatenate(name="concatenate")(known) if len(known) > 1 else known[0]
    x = Dropout(config.dropout, name="dropout_in")(x)
    x = layers.Dense(config.units, activation="relu", name="fused")(x)
    return Dropout(config.dropout, name="dropout_out")(x)
