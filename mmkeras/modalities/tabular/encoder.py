"""The tabular branch: dense layers, or a Transformer with one token per column."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from mmkeras.config.tabular import TabularConfig
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.sequence import FullMask, transformer_block
from mmkeras.modalities.tabular.embedding import (
    CategoryEmbedding,
    NumberTokens,
    PeriodicEmbedding,
    RowToken,
)

_PERIODIC_UNITS = 4  # per number; more accurate than none in `benchmarks.tabular`


def build_tabular_encoder(
    config: TabularConfig,
    number_widths: Sequence[int],
    category_counts: Sequence[int],
    tokens: bool = False,
) -> keras.Model:
    """Builds the tabular branch.

    The input is (B, W) float32: the numbers of each column, `number_widths` of them;
    per such column 1 if it is absent, else 0; and per column of categories an index
    below `category_counts`. The output is one vector (B, D); or, from the Transformer
    with `tokens`, one token per column after that of the row, (B, L, D), and their mask
    (B, L) bool, all true.
    """
    width = sum(number_widths) + len(number_widths) + len(category_counts)
    x = keras.Input((width,), name="tabular_columns")
    ends = np.cumsum([sum(number_widths), len(number_widths)]).tolist()
    parts = (x[:, : ends[0]], x[:, ends[0] : ends[1]], x[:, ends[1] :])
    if not config.units:
        result = _features(parts, category_counts)
    elif config.encoder == "mlp" or (config.encoder == "auto" and not tokens):
        result = _mlp(parts, config, category_counts)
    else:
        rows, mask = _transformer(parts, config, number_widths, category_counts)
        result = [rows, mask] if tokens else rows[:, 0]
    return keras.Model(x, result, name="tabular_encoder")


def _features(parts, counts):
    """Returns numbers, flags and one-hot categories, without weights."""
    numbers, flags, categories = parts
    blocks = [numbers, flags]
    for i, count in enumerate(counts):
        index = ops.cast(categories[:, i], "int32")
        blocks.append(ops.one_hot(index, count))
    return layers.Concatenate(name="tabular_features")(blocks)


def _mlp(parts, config, counts):
    numbers, flags, categories = parts
    blocks = []
    if numbers.shape[1]:
        embed = PeriodicEmbedding(_PERIODIC_UNITS, name="tabular_periodic")
        blocks += [numbers, flags, embed(numbers)]
    if counts:
        embed = CategoryEmbedding(counts, config.embedding, name="tabular_embedding")
        blocks.append(layers.Flatten(name="tabular_categories")(embed(categories)))
    x = layers.Concatenate(name="tabular_features")(blocks)
    for i in range(1, config.layers + 1):
        x = layers.Dense(config.units, activation="relu", name=f"tabular_dense{i}")(x)
        x = Dropout(config.dropout, name=f"tabular_dropout{i}")(x)
    return x


def _transformer(parts, config, widths, counts):
    """Returns (B, 1 + columns, units), and the mask.

    Source: Gorishniy et al., 2021, https://arxiv.org/abs/2106.11959 (FT-Transformer),
    here with a norm before the first attention, GELU, and a token per date.
    """
    numbers, flags, categories = parts
    blocks = []
    if widths:
        blocks.append(
            NumberTokens(widths, config.units, name="tabular_numbers")(numbers, flags)
        )
    if counts:
        embed = CategoryEmbedding(counts, config.units, name="tabular_embedding")
        blocks.append(embed(categories))
    x = layers.Concatenate(axis=1, name="tabular_tokens")(blocks)
    x = RowToken(name="tabular_row")(x)
    mask = FullMask(name="tabular_mask")(x)
    for i in range(1, config.layers + 1):
        settings = {"heads": config.heads, "dropout": config.dropout / 2}
        x = transformer_block(x, mask, name=f"tabular_block{i}", **settings)
    return layers.LayerNormalization(name="tabular_norm")(x), mask
