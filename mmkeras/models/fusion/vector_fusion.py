"""Fusion of one vector per modality: (B, D_m) each, to one (B, D)."""

from collections.abc import Sequence
from itertools import combinations
from math import prod

import keras
from keras import layers, ops

from mmkeras.config import FusionConfig
from mmkeras.layers.replica_dropout import Dropout

Vectors = Sequence[keras.KerasTensor]


def concat(vectors: Vectors, config: FusionConfig) -> keras.KerasTensor:
    """Concatenates the vectors: to (B, sum of D_m)."""
    if len(vectors) == 1:
        return vectors[0]
    return layers.Concatenate(name="concatenate")(list(vectors))


def concat_dense(vectors: Vectors, config: FusionConfig) -> keras.KerasTensor:
    """Applies `config.layers` dense layers to the concatenation: to (B, units)."""
    x = Dropout(config.dropout, name="dropout_in")(concat(vectors, config))
    for i in range(1, config.layers):
        x = layers.Dense(config.units, activation="relu", name=f"fused_{i}")(x)
    return _dense(x, config)


def _dense(x, config):
    x = layers.Dense(config.units, activation="relu", name="fused")(x)
    return Dropout(config.dropout, name="dropout_out")(x)


def interact(vectors: Vectors, config: FusionConfig) -> keras.KerasTensor:
    """Projects the branches and multiplies them: to (B, terms * width).

    For text t, image i and audio a the terms are t, i, a, t*i, t*a, i*a and t*i*a,
    element by element. The classifier after it is linear, so that each term has its
    own learned weight matrix: y = b0 + sum of B_term term.
    """
    parts = [
        layers.Dense(config.width, activation="tanh", name=f"project_{i}")(vector)
        for i, vector in enumerate(vectors)
    ]
    terms = []
    for count in range(1, len(parts) + 1):
        for chosen in combinations(range(len(parts)), count):
            name = "term_" + "_".join(map(str, chosen))
            factors = [parts[i] for i in chosen]
            layer = layers.Multiply if count > 1 else layers.Identity
            terms.append(layer(name=name)(factors if count > 1 else factors[0]))
    x = layers.Concatenate(name="terms")(terms) if len(terms) > 1 else terms[0]
    return Dropout(config.dropout, name="dropout_out")(x)


def gate(vectors: Vectors, config: FusionConfig) -> keras.KerasTensor:
    """Sums the branches through gated multimodal units: to (B, units).

    Each branch has h = tanh(W v) and a gate from all branches, z = sigmoid(Z [v...]);
    the result is the sum of z * h.

    Source: Arevalo et al., 2017, https://arxiv.org/abs/1702.01992, its form for more
    than two modalities.
    """
    x = Dropout(config.dropout, name="dropout_in")(concat(vectors, config))
    gated = []
    for i, vector in enumerate(vectors):
        hidden = layers.Dense(config.units, activation="tanh", name=f"hidden_{i}")
        open_by = layers.Dense(config.units, activation="sigmoid", name=f"gate_{i}")
        gated.append(layers.Multiply(name=f"gated_{i}")([hidden(vector), open_by(x)]))
    fused = layers.Add(name="fused")(gated) if len(gated) > 1 else gated[0]
    return Dropout(config.dropout, name="dropout_out")(fused)


def multiply_out(vectors: Vectors, config: FusionConfig) -> keras.KerasTensor:
    """Takes the outer product of [1, v] of all branches (tensor fusion): to (B, units).

    The 1 keeps the terms of each single branch and of each smaller set of them.

    Raises:
        ValueError: The product would have more than a million numbers.

    Source: Zadeh et al., 2017, https://arxiv.org/abs/1707.07250, with one dense layer
    on the tensor.
    """
    size = (config.width + 1) ** len(vectors)
    if size > 1_000_000:
        raise ValueError(
            f"`config.width` is {config.width}, and the outer product of "
            f"{len(vectors)} modalities would have {size:,} numbers; at most 1,000,000."
        )
    product = None
    for i, vector in enumerate(vectors):
        x = layers.Dense(config.width, activation="gelu", name=f"project_{i}")(vector)
        x = AppendOne(name=f"one_{i}")(x)  # (B, width + 1)
        if product is None:
            product = x
            continue
        pairs = ops.expand_dims(product, 2) * ops.expand_dims(x, 1)
        flat = prod(pairs.shape[1:])
        product = layers.Reshape((flat,), name=f"outer_{i}")(pairs)
    x = Dropout(config.dropout, name="dropout_in")(product)
    return _dense(x, config)


def multiply_low_rank(vectors: Vectors, config: FusionConfig) -> keras.KerasTensor:
    """Multiplies low-rank factors instead of the full tensor: to (B, units).

    The result is the product over the branches of F_r [1, v], summed over the ranks r
    with learned weights.

    Source: Liu et al., 2018, https://arxiv.org/abs/1806.00064. Here all factors are
    weights of layers, so that each of them is trained.
    """
    factors = []
    for i, vector in enumerate(vectors):
        x = layers.Dense(config.width, activation="gelu", name=f"project_{i}")(vector)
        x = Dropout(config.dropout, name=f"dropout_{i}")(x)
        # The layer's bias is the weight of the 1 before v. It starts at 1, so that at
        # first each branch reaches the product whatever the others are.
        factor = layers.Dense(
            config.rank * config.units, bias_initializer="ones", name=f"factor_{i}"
        )
        factors.append(factor(x))
    product = factors[0]
    if len(factors) > 1:
        product = layers.Multiply(name="product")(factors)
    x = SumRanks(config.rank, name="fused")(product)
    return Dropout(config.dropout, name="dropout_out")(x)


def standardize(vectors: Vectors, config: FusionConfig) -> keras.KerasTensor:
    """Concatenates the vectors and standardizes each number: to (B, sum of D_m)."""
    return Standardize(dtype="float32", name="fused")(concat(vectors, config))


@keras.saving.register_keras_serializable(package="mmkeras")
class Standardize(layers.Layer):
    """Vectors minus their mean, divided by their deviation: (B, D) to (B, D).

    Both are set from training rows. A classifier on vectors that are not standardized
    would lose precision in float32, and is slow to train.

    Args:
        limit: Largest absolute result; larger ones are clipped. None is no limit.
    """

    def __init__(self, limit: float | None = None, **kwargs):
        super().__init__(**kwargs)
        self.limit = limit

    def build(self, shape):
        settings = {"shape": (shape[-1],), "trainable": False}
        self.mean = self.add_weight(name="mean", initializer="zeros", **settings)
        self.deviation = self.add_weight(
            name="deviation", initializer="ones", **settings
        )

    def call(self, vectors):
        z = (vectors - self.mean) / self.deviation
        return z if self.limit is None else ops.clip(z, -self.limit, self.limit)

    def get_config(self):
        return {**super().get_config(), "limit": self.limit}


@keras.saving.register_keras_serializable(package="mmkeras")
class AppendOne(layers.Layer):
    """A 1 before each vector: (B, D) to (B, 1 + D)."""

    def call(self, vectors):
        return ops.concatenate([ops.ones_like(vectors[:, :1]), vectors], axis=1)


@keras.saving.register_keras_serializable(package="mmkeras")
class SumRanks(layers.Layer):
    """Sum over ranks with learned weights: (B, rank * units) to (B, units)."""

    def __init__(self, rank: int, **kwargs):
        super().__init__(**kwargs)
        self.rank = rank

    def build(self, shape):
        self.rank_weights = self.add_weight(
            name="weigh", shape=(1, self.rank), initializer="glorot_uniform"
        )
        self.bias = self.add_weight(
            name="bias", shape=(shape[1] // self.rank,), initializer="zeros"
        )

    def call(self, products):
        units = products.shape[1] // self.rank
        by_rank = ops.reshape(products, (-1, self.rank, units))
        return ops.matmul(self.rank_weights, by_rank)[:, 0] + self.bias

    def get_config(self):
        return {**super().get_config(), "rank": self.rank}
