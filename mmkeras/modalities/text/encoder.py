"""The text branch: a dense layer for vectors, or a sequence encoder for tokens."""

from dataclasses import replace

import keras
from keras import layers, ops

from mmkeras.config import TextConfig
from mmkeras.config.validation import AUTO
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.sequence import PositionEmbedding, TokenPooling, transformer_block
from mmkeras.modalities.text.bert import BertSizes, PadTokens, TrimPadding, bert
from mmkeras.modalities.text.pretrained import PretrainedBert


def build_text_encoder(
    config: TextConfig,
    width: int,
    vocabulary_size: int = 0,
    tokens: bool = False,
    name: str = "text_encoder",
) -> keras.Model:
    """Builds the text branch.

    The input is vectors, (B, width) float32, or with `config.is_sequence` token ids,
    (B, width) int32, 0 in padding; `vocabulary_size` includes padding and unknown. With
    `tokens` encoders of sequences return their tokens, (B, width, D), and the mask
    (B, width) bool, instead of one vector (B, D).
    """
    if not config.is_sequence:
        return _dense(config, width, name)
    ids = keras.Input((width,), dtype="int32", name="text_numbers")
    mask = ops.not_equal(ids, 0)  # (B, L)
    x = _encode_sequence(ids, mask, config, vocabulary_size)
    x = Dropout(config.dropout, name="text_dropout")(x)
    if not tokens:
        how = "mean" if config.pooling == AUTO else config.pooling
        x = TokenPooling(how, name="text_pool")(x, mask)
    return keras.Model(ids, [x, mask] if tokens else x, name=name)


def build_pretrained_encoder(
    pretrained: PretrainedBert, width: int, pooling: str, tokens: bool
) -> keras.Model:
    """Builds a pretrained BERT: (B, width) int32 token ids, 0 in padding, to (B, D).

    `pooling` is that of the settings. With `tokens` the result is (B, width, D), zeros
    in padding.

    Raises:
        UserError: The weights do not fit the sizes.
    """
    ids = keras.Input((width,), dtype="int32", name="text_numbers")
    trimmed = TrimPadding(name="text_trim")(ids)
    x = bert(trimmed, replace(pretrained.sizes, positions=width))
    if tokens:
        x = PadTokens(width, name="text_pad")(x, trimmed)
    else:
        how = pretrained.pooling or "mean" if pooling == AUTO else pooling
        x = TokenPooling(how, name="text_pool")(x, ops.not_equal(trimmed, 0))
        if pretrained.normalize:
            x = layers.UnitNormalization(name="text_unit")(x)
    model = keras.Model(ids, x)
    pretrained.load(model)
    return model


def _dense(config, width, name):
    vector = keras.Input((width,), name="text_vector")
    x = Dropout(config.dropout, name="text_dropout")(vector)
    if config.units:
        x = layers.Dense(config.units, activation="relu", name="text_dense")(x)
    return keras.Model(vector, x, name=name)


def _encode_sequence(ids, mask, config, vocabulary_size):
    """(B, L) int32, (B, L) bool -> (B, L, D)."""
    if config.encoder == "bert":
        return bert(ids, _own_sizes(config, ids.shape[1], vocabulary_size))
    embedding = layers.Embedding(vocabulary_size, config.units, name="text_embedding")
    x = embedding(ids)
    if config.encoder == "transformer":
        return _transformer(x, mask, config)
    layer = {"lstm": layers.LSTM, "gru": layers.GRU}[config.encoder]
    name = f"text_{config.encoder}"
    return layer(config.units, return_sequences=True, name=name)(x, mask=mask)


def _own_sizes(config, positions, vocabulary_size):
    """Returns the sizes of a BERT that is trained from scratch."""
    return BertSizes(
        pieces=vocabulary_size,
        positions=positions,
        width=config.units,
        layers=config.layers,
        heads=config.heads,
        hidden=4 * config.units,
        activation="gelu",
        epsilon=1e-12,
        embedding_width=config.units,
        has_segments=False,
    )


def _transformer(x, mask, config):
    x = PositionEmbedding(name="text_places")(x)
    for i in range(config.layers):
        name, dropout = f"text_block{i + 1}", config.dropout / 2
        x = transformer_block(x, mask, heads=config.heads, dropout=dropout, name=name)
    return layers.LayerNormalization(name="text_norm")(x)
