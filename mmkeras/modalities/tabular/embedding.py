"""Layers that embed numbers and categories of columns.

AdamW has no weight decay for weights with "embedding" or "bias" in their names.
"""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

_FREQUENCIES = 16
_FREQUENCY_DEVIATION = 0.1  # cycles per deviation of the number


@keras.saving.register_keras_serializable(package="mmkeras")
class CategoryEmbedding(layers.Layer):
    """Learned vector per category: (B, C) float indices to (B, C, D).

    Column i has indices from 0 to `counts[i]` - 1.
    """

    def __init__(self, counts: Sequence[int], units: int, **kwargs):
        # Half precision cannot hold all indices.
        super().__init__(**kwargs, autocast=False)
        self.counts, self.units = list(counts), units

    def build(self, shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=(sum(self.counts), self.units),
            initializer=keras.initializers.RandomNormal(stddev=0.05),
        )

    def call(self, indices):
        starts = np.cumsum([0, *self.counts[:-1]]).astype("int32")
        rows = ops.cast(indices, "int32") + starts
        return ops.cast(ops.take(self.embedding, rows, axis=0), self.compute_dtype)

    def compute_output_spec(self, indices):
        return keras.KerasTensor((*indices.shape, self.units), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "counts": self.counts, "units": self.units}


@keras.saving.register_keras_serializable(package="mmkeras")
class NumberTokens(layers.Layer):
    """Token per column of numbers: (B, N) numbers and (B, F) flags to (B, F, D).

    The token is a linear map of the `widths[i]` numbers of column i, with a bias of its
    own where the value is absent.

    Source: Gorishniy et al., 2021, https://arxiv.org/abs/2106.11959, with the bias of
    absence and with several numbers per column.
    """

    def __init__(self, widths: Sequence[int], units: int, **kwargs):
        super().__init__(**kwargs)
        self.widths, self.units = list(widths), units

    def build(self, numbers_shape, flags_shape):
        limit = self.units**-0.5
        for name, rows in (
            ("kernel", sum(self.widths)),
            ("bias", len(self.widths)),
            ("absence_bias", len(self.widths)),
        ):
            # An initializer returns the same numbers at each call.
            start = keras.initializers.RandomUniform(-limit, limit)
            weight = self.add_weight(
                name=name, shape=(rows, self.units), initializer=start
            )
            setattr(self, name, weight)

    def call(self, numbers, flags):
        columns = np.repeat(np.eye(len(self.widths), dtype="float32"), self.widths, 0)
        kernel = ops.cast(columns, numbers.dtype)[:, :, None] * self.kernel[:, None]
        tokens = ops.tensordot(numbers, kernel, axes=1)  # (B, F, D)
        return tokens + self.bias + flags[..., None] * self.absence_bias

    def get_config(self):
        return {**super().get_config(), "widths": self.widths, "units": self.units}


@keras.saving.register_keras_serializable(package="mmkeras")
class PeriodicEmbedding(layers.Layer):
    """Cosines of learned frequencies of each number: (B, N) to (B, N * units).

    Each number has its own frequencies, phases and linear map to `units`.

    Source: Holzmüller et al., 2024, https://arxiv.org/abs/2407.04491 (PBLD of
    RealMLP), after Gorishniy et al., 2022, https://arxiv.org/abs/2203.05556.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        width = shape[-1]
        normal = keras.initializers.RandomNormal(stddev=_FREQUENCY_DEVIATION)
        phase = keras.initializers.RandomUniform(-np.pi, np.pi)
        limit = _FREQUENCIES**-0.5
        uniform = keras.initializers.RandomUniform(-limit, limit)
        for name, shape, start in (
            ("frequency_embedding", (width, _FREQUENCIES), normal),
            ("phase_bias", (width, _FREQUENCIES), phase),
            ("kernel", (width, _FREQUENCIES, self.units), uniform),
            ("bias", (width, self.units), "zeros"),
        ):
            weight = self.add_weight(name=name, shape=shape, initializer=start)
            setattr(self, name, weight)

    def call(self, numbers):
        angle = 2 * np.pi * numbers[..., None] * self.frequency_embedding
        waves = ops.cos(angle + self.phase_bias)  # (B, N, frequencies)
        x = ops.einsum("bnf,nfu->bnu", waves, self.kernel) + self.bias
        return ops.reshape(x, (-1, x.shape[1] * self.units))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="mmkeras")
class RowToken(layers.Layer):
    """Learned token before the others: (B, L, D) to (B, 1 + L, D)."""

    def build(self, shape):
        self.embedding = self.add_weight(
            name="embedding",
            shape=(1, 1, shape[-1]),
            initializer=keras.initializers.RandomNormal(stddev=0.02),
        )

    def call(self, tokens):
        row = ops.zeros_like(tokens[:, :1]) + ops.cast(self.embedding, tokens.dtype)
        return ops.concatenate([row, tokens], axis=1)
