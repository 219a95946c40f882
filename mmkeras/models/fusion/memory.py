"""Tokens of all branches in one sequence, the memory that a text decoder attends to."""

import keras
from keras import layers, ops

from mmkeras.config import FusionConfig
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.sequence import PositionEmbedding, transformer_block
from mmkeras.models.fusion.token_fusion import Tokens, project_tokens


def join_tokens(
    branches: Tokens, config: FusionConfig
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Joins the tokens of all branches: to (B, K, width) and their mask (B, K) bool.

    K is the number of tokens of all branches. Each place of each branch has a learned
    vector, by which the decoder tells them apart. With `config.kind` cross_attention
    all tokens attend to each other, in `config.blocks` Transformer blocks.

    Example:
        tokens, mask = keras.Input((49, 64)), keras.Input((49,), dtype="bool")
        memory, memory_mask = join_tokens([(tokens, mask)], FusionConfig())
    """
    tokens = [
        PositionEmbedding(name=f"place_{i}")(project_tokens(x, i, config))
        for i, (x, _) in enumerate(branches)
    ]
    masks = [mask for _, mask in branches]
    memory, mask = tokens[0], masks[0]
    if len(branches) > 1:
        memory = layers.Concatenate(axis=1, name="memory_join")(tokens)
        mask = ops.concatenate(masks, axis=1)  # the layer would make it float
    memory = Dropout(config.dropout, name="memory_dropout")(memory)
    if config.kind == "cross_attention":
        settings = {"heads": config.heads, "dropout": config.dropout / 2}
        for i in range(config.blocks):
            memory = transformer_block(memory, mask, name=f"across_{i}", **settings)
    return memory, mask
