"""Decoder of texts: tokens so far, and what branches tell, to logits of the next."""

from collections.abc import Mapping

import keras
from keras import layers, ops

from mmkeras.config.generate import GenerateConfig
from mmkeras.layers.attention_lstm import AttentionLSTM
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.scheduled_sampling import ScheduledSampling
from mmkeras.layers.sequence import PositionEmbedding, hide_padding
from mmkeras.layers.tied_embedding import TiedEmbedding
from mmkeras.schema import EMBEDDING

# Inputs,
MEMORY, MEMORY_MASK, TOKENS = "memory", "memory_mask", "tokens"
# and outputs.
LOGITS, ATTENTION = "logits", "attention"
SINGLE_PASS = "decoder"  # name, also inside a model of scheduled sampling


def build_decoder(
    config: GenerateConfig, *, vocab_size: int, memory_width: int, embedding_width: int
) -> keras.Model:
    """Returns a model of the next token of a text, at each of its positions.

    Its inputs are "memory" (B, K, memory_width) float, the tokens of all branches;
    "memory_mask" (B, K) bool; "embedding" (B, embedding_width) float, the fused vector,
    which is added to each token or starts the state of the LSTM; and "tokens" (B, L)
    int, the start token and a text, with zeros after it. Its outputs are "logits"
    (B, L, vocab_size) float32, at position t of the token after tokens[:, : t + 1]; and
    "attention" (B, L, K) float32, each position's weights of the memory, which sum to 1
    over the unmasked part: the mean over the heads of the last block. L may differ from
    call to call; an LSTM has no limit, and a Transformer that of `config.max_tokens`
    and the start token.

    Args:
        config: Settings; `max_tokens` is a number.
        vocab_size: Number of token ids, with those of padding, start and end.

    Example:
        decoder = build_decoder(GenerateConfig(max_tokens=9), vocab_size=50,
                                memory_width=64, embedding_width=32)
        inputs = {**select_decoder_inputs(head_outputs), "tokens": ids}
        logits = decoder(inputs)["logits"]
    """
    inputs = build_inputs(memory_width, embedding_width)
    memory = hide_padding(inputs[MEMORY], inputs[MEMORY_MASK])
    memory = layers.Dense(config.width, name="project_memory")(memory)
    memory = layers.LayerNormalization(name="memory_norm")(memory)
    embed = TiedEmbedding(vocab_size, config.width, name="token_embedding")
    decode = _DECODERS[config.decoder]
    x, attention = decode(
        embed(inputs[TOKENS]), memory, inputs[MEMORY_MASK], inputs[EMBEDDING], config
    )
    x = layers.LayerNormalization(name="final_norm")(x)
    outputs = {
        LOGITS: embed(x, reverse=True),
        ATTENTION: ops.cast(attention, "float32"),
    }
    decoder = keras.Model(inputs, outputs, name=SINGLE_PASS)
    if config.scheduled_sampling:
        return _add_scheduled_sampling(decoder, inputs, config.scheduled_sampling)
    return decoder


def build_inputs(
    memory_width: int, embedding_width: int
) -> dict[str, keras.KerasTensor]:
    """Returns the inputs of a decoder by name."""
    return {
        MEMORY: keras.Input((None, memory_width), name=MEMORY),
        MEMORY_MASK: keras.Input((None,), dtype="bool", name=MEMORY_MASK),
        EMBEDDING: keras.Input((embedding_width,), name=EMBEDDING),
        TOKENS: keras.Input((None,), dtype="int32", name=TOKENS),
    }


def select_decoder_inputs(outputs: Mapping) -> dict:
    """Returns those outputs of a head that are inputs of its decoder, by name."""
    return {name: outputs[name] for name in (MEMORY, MEMORY_MASK, EMBEDDING)}


def _add_scheduled_sampling(decoder, inputs, probability):
    """Returns a model that in training decodes again, after its own predictions."""
    first = decoder(inputs)[LOGITS]
    mix = ScheduledSampling(probability, name="scheduled_sampling")
    outputs = decoder({**inputs, TOKENS: mix(inputs[TOKENS], first)})
    return keras.Model(inputs, outputs, name="sampled_decoder")


def _decode_by_transformer(tokens, memory, mask, embedding, config):
    """Returns hidden tokens (B, L, width) and the last block's attention."""
    positions = PositionEmbedding(
        config.max_tokens + 1, config.width**0.5, name="positions"
    )
    x = positions(tokens)
    x = x + layers.Dense(config.width, name="project_embedding")(embedding)[:, None]
    x = Dropout(config.dropout, name="token_dropout")(x)
    for block in range(config.layers):
        is_last = block == config.layers - 1
        x, scores = _decoder_block(x, memory, mask, config, f"block_{block}", is_last)
    # (B, heads, L, K); a row without memory has equal scores.
    return x, ops.mean(scores, axis=1) * ops.cast(mask[:, None, :], scores.dtype)


def _decoder_block(x, memory, mask, config, name, has_scores):
    """Applies causal attention, attention to the memory and a dense part.

    All are residual. Padding, which comes last, needs no mask.

    Source: Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, normalised before
    each part as in Xiong et al., 2020, https://arxiv.org/abs/2002.04745.
    """
    heads, width = config.heads, config.width
    y = layers.LayerNormalization(name=f"{name}_self_norm")(x)
    attend = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_self")
    y = attend(y, y, use_causal_mask=True)
    x = x + Dropout(config.dropout, name=f"{name}_self_dropout")(y)
    y = layers.LayerNormalization(name=f"{name}_memory_norm")(x)
    attend = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_memory")
    mask = mask[:, None, :]  # (B, 1, K)
    y = attend(y, memory, attention_mask=mask, return_attention_scores=has_scores)
    y, scores = y if has_scores else (y, None)
    x = x + Dropout(config.dropout, name=f"{name}_memory_dropout")(y)
    y = layers.LayerNormalization(name=f"{name}_dense_norm")(x)
    y = layers.Dense(4 * width, activation="gelu", name=f"{name}_wide")(y)
    y = layers.Dense(width, name=f"{name}_narrow")(y)
    return x + Dropout(config.dropout, name=f"{name}_dropout")(y), scores


def _decode_by_lstm(tokens, memory, mask, embedding, config):
    """Returns hidden tokens (B, L, width) and the attention of each step."""
    lstm = AttentionLSTM(config.width, config.dropout, name="attention_lstm")
    x, attention = lstm(tokens, memory, mask, embedding)
    return layers.Dense(config.width, name="project_state")(x), attention


_DECODERS = {
    "transformer": _decode_by_transformer,
    "lstm_attention": _decode_by_lstm,
}
