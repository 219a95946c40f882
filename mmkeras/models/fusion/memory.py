"""Tokens of all branches in one sequence, and one vector: what a text decoder reads."""

from typing import NamedTuple

import keras
from keras import layers, ops

from mmkeras.config import FusionConfig
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.sequence import PositionEmbedding, TokenPooling, transformer_block
from mmkeras.models.fusion.token_fusion import Tokens, project_tokens
from mmkeras.models.fusion.vector_fusion import concat_dense


class Memory(NamedTuple):
    """Input of a text decoder: B rows of K tokens, those of all branches.

    Attributes:
        tokens: (B, K, width) float.
        mask: (B, K) bool, false in padding.
        embedding: (B, units) float, the fused mean tokens of the branches.
    """

    tokens: keras.KerasTensor
    mask: keras.KerasTensor
    embedding: keras.KerasTensor


def build_memory(branches: Tokens, config: FusionConfig) -> Memory:
    """Joins the tokens of all branches, and fuses the mean token of each.

    Tokens are projected to one width and normalized, and each place of each branch has
    a learned vector, by which the decoder tells branches and places apart. The means
    are fused as by the kind concat. With `config.kind` cross_attention all tokens then
    attend to each other, in `config.blocks` Transformer blocks.

    Example:
        tokens, mask = keras.Input((49, 64)), keras.Input((49,), dtype="bool")
        memory = build_memory([(tokens, mask)], FusionConfig())
    """
    tokens = [_place(x, i, config) for i, (x, _) in enumerate(branches)]
    masks = [mask for _, mask in branches]
    means = [
        TokenPooling(name=f"mean_{i}")(*pair)
        for i, pair in enumerate(zip(tokens, masks, strict=True))
    ]
    memory, mask = tokens[0], masks[0]
    if len(branches) > 1:
        memory = layers.Concatenate(axis=1, name="memory_join")(tokens)
        mask = ops.hstack(masks)  # the layer would make it float
    memory = Dropout(config.dropout, name="memory_dropout")(memory)
    if config.kind == "cross_attention":
        settings = {"heads": config.heads, "dropout": config.dropout / 2}
        for i in range(config.blocks):
            memory = transformer_block(memory, mask, name=f"across_{i}", **settings)
    return Memory(memory, mask, concat_dense(means, config))


def _place(tokens, i, config):
    """Projects the tokens of a branch and adds the vectors of their places."""
    x = project_tokens(tokens, i, config)
    x = layers.LayerNormalization(name=f"norm_{i}")(x)
    return PositionEmbedding(scale=config.width**0.5, name=f"place_{i}")(x)
