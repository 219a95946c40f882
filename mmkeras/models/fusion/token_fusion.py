"""Fusion of token sequences: (B, L_m, D_m) and masks (B, L_m) each, to one (B, D)."""

from collections.abc import Sequence

import keras
from keras import layers

from mmkeras.config import FusionConfig
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.sequence import TokenPooling, transformer_block

Tokens = Sequence[tuple[keras.KerasTensor, keras.KerasTensor]]


def _project(tokens, i, config):
    """Brings a modality's tokens to the common width: (B, L, width)."""
    return layers.Dense(config.width, name=f"project_{i}")(tokens)


def _fused(parts, config):
    x = layers.Concatenate(name="concatenate")(parts) if len(parts) > 1 else parts[0]
    x = Dropout(config.dropout, name="dropout_in")(x)
    x = layers.Dense(config.units, activation="relu", name="fused")(x)
    return Dropout(config.dropout, name="dropout_out")(x)


def attend_across(branches: Tokens, config: FusionConfig) -> keras.KerasTensor:
    """Each modality's tokens attend to all tokens of the others: to (B, units).

    The modalities' mean tokens stand side by side before the dense layer.
    """
    tokens = [_project(x, i, config) for i, (x, _) in enumerate(branches)]
    masks = [mask for _, mask in branches]
    pooled = []
    for i, x in enumerate(tokens):
        others = [j for j in range(len(tokens)) if j != i]
        if others:
            source = layers.Concatenate(axis=1, name=f"others_{i}")(
                [tokens[j] for j in others]
            )
            mask = layers.Concatenate(axis=1, name=f"others_mask_{i}")(
                [masks[j] for j in others]
            )
        else:
            source, mask = None, masks[i]
        x = transformer_block(
            x,
            mask,
            heads=config.heads,
            dropout=config.dropout / 2,
            name=f"across_{i}",
            source=source,
        )
        pooled.append(TokenPooling(name=f"pool_{i}")(x, masks[i]))
    return _fused(pooled, config)


def transform_pairs(branches: Tokens, config: FusionConfig) -> keras.KerasTensor:
    """A cross-modal Transformer for each ordered pair of modalities: to (B, units).

    What a modality's tokens have read in each other one stands side by side, goes
    through a Transformer block of its own, and is averaged over the tokens.

    Source: Tsai et al., 2019, https://arxiv.org/abs/1906.00295 (MulT); there the last
    token stands for a sequence, here the mean does, and places are the encoders' work.
    """
    tokens = [_project(x, i, config) for i, (x, _) in enumerate(branches)]
    masks = [mask for _, mask in branches]
    settings = {"heads": config.heads, "dropout": config.dropout / 2}
    pooled = []
    for i, x in enumerate(tokens):
        read = []
        for j, source in enumerate(tokens):
            if i == j:
                continue
            y = x
            for block in range(config.blocks):
                name = f"from_{j}_to_{i}_{block}"
                y = transformer_block(y, masks[j], name=name, source=source, **settings)
            read.append(y)
        if len(read) > 1:
            x = layers.Concatenate(name=f"read_{i}")(read)
        elif read:
            x = read[0]
        x = transformer_block(x, masks[i], name=f"memory_{i}", **settings)
        pooled.append(TokenPooling(name=f"pool_{i}")(x, masks[i]))
    return _fused(pooled, config)


def average(branches: Tokens, config: FusionConfig) -> keras.KerasTensor:
    """Mean of the modalities' mean tokens in a common space: to (B, units)."""
    pooled = []
    for i, (tokens, mask) in enumerate(branches):
        x = layers.LayerNormalization(name=f"norm_{i}")(_project(tokens, i, config))
        pooled.append(TokenPooling(name=f"pool_{i}")(x, mask))
    mean = layers.Average(name="mean")(pooled) if len(pooled) > 1 else pooled[0]
    return _fused([mean], config)
