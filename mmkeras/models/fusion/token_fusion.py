"""Fusion of token sequences: (B, L_m, D_m) and masks (B, L_m) to one (B, D)."""

from collections.abc import Sequence

import keras
from keras import layers

from mmkeras.config import FusionConfig
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.sequence import TokenPooling, transformer_block

Tokens = Sequence[tuple[keras.KerasTensor, keras.KerasTensor]]


def project_tokens(
    tokens: keras.KerasTensor, i: int, config: FusionConfig
) -> keras.KerasTensor:
    """Projects the tokens of a modality to the common width: (B, L, width)."""
    return layers.Dense(config.width, name=f"project_{i}")(tokens)


def _fuse_vectors(vectors, config):
    x = vectors[0]
    if len(vectors) > 1:
        x = layers.Concatenate(name="concatenate")(vectors)
    x = Dropout(config.dropout, name="dropout_in")(x)
    x = layers.Dense(config.units, activation="relu", name="fused")(x)
    return Dropout(config.dropout, name="dropout_out")(x)


def attend_across(branches: Tokens, config: FusionConfig) -> keras.KerasTensor:
    """Lets the tokens of each modality attend to those of all others: to (B, units).

    The mean tokens of all modalities are concatenated before the dense layer.
    """
    tokens = [project_tokens(x, i, config) for i, (x, _) in enumerate(branches)]
    masks = [mask for _, mask in branches]
    settings = {"heads": config.heads, "dropout": config.dropout / 2}
    pooled = []
    for i, x in enumerate(tokens):
        source, mask = None, masks[i]
        if others := [j for j in range(len(tokens)) if j != i]:
            join = layers.Concatenate(axis=1, name=f"others_{i}")
            source = join([tokens[j] for j in others])
            join = layers.Concatenate(axis=1, name=f"others_mask_{i}")
            mask = join([masks[j] for j in others])
        x = transformer_block(x, mask, name=f"across_{i}", source=source, **settings)
        pooled.append(TokenPooling(name=f"pool_{i}")(x, masks[i]))
    return _fuse_vectors(pooled, config)


def transform_pairs(branches: Tokens, config: FusionConfig) -> keras.KerasTensor:
    """Applies a cross-modal Transformer per ordered pair of modalities: to (B, units).

    The results for one modality are concatenated, go through another Transformer
    block, and are averaged over the tokens.

    Source: Tsai et al., 2019, https://arxiv.org/abs/1906.00295 (MulT). There the last
    token represents a sequence, here the mean; positions are added by the encoders.
    """
    tokens = [project_tokens(x, i, config) for i, (x, _) in enumerate(branches)]
    masks = [mask for _, mask in branches]
    settings = {"heads": config.heads, "dropout": config.dropout / 2}
    pooled = []
    for i, x in enumerate(tokens):
        crossed = []
        for j, source in enumerate(tokens):
            if i == j:
                continue
            y = x
            for block in range(config.blocks):
                name = f"from_{j}_to_{i}_{block}"
                y = transformer_block(y, masks[j], name=name, source=source, **settings)
            crossed.append(y)
        if len(crossed) > 1:
            x = layers.Concatenate(name=f"read_{i}")(crossed)
        elif crossed:
            x = crossed[0]
        x = transformer_block(x, masks[i], name=f"memory_{i}", **settings)
        pooled.append(TokenPooling(name=f"pool_{i}")(x, masks[i]))
    return _fuse_vectors(pooled, config)


def average(branches: Tokens, config: FusionConfig) -> keras.KerasTensor:
    """Averages the modalities' mean tokens in a common space: to (B, units)."""
    pooled = []
    for i, (tokens, mask) in enumerate(branches):
        x = layers.LayerNormalization(name=f"norm_{i}")(
            project_tokens(tokens, i, config)
        )
        pooled.append(TokenPooling(name=f"pool_{i}")(x, mask))
    mean = layers.Average(name="mean")(pooled) if len(pooled) > 1 else pooled[0]
    return _fuse_vectors([mean], config)
