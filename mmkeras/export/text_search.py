"""Search for the texts of a generator: greedy, by beams, or drawn, in the graph."""

from collections.abc import Mapping
from typing import NamedTuple

import keras
import tensorflow as tf

from mmkeras.config import GenerateConfig
from mmkeras.modalities.preprocessing_state import (
    END,
    FIRST_TOKEN,
    PADDING,
    START,
)
from mmkeras.models.decoder import LOGITS, MEMORY, TOKENS, select_decoder_inputs

IMPOSSIBLE = -1e9  # log probability, and score of a text that does not exist


class TextSearch(NamedTuple):
    """Texts of B rows, the best first.

    `tokens` is (B, N, max_tokens + 1) int32, without the start token, 0 after the end
    token; `scores` is (B, N) float32, the log probability divided by the number of
    tokens, the end token included, to the power of `length_penalty`.
    """

    tokens: tf.Tensor
    scores: tf.Tensor


class _State(NamedTuple):
    """Partial texts of B rows, N each: `tokens` (B, N, max_tokens + 2) int32."""

    step: tf.Tensor
    tokens: tf.Tensor
    log_probability: tf.Tensor  # (B, N)
    is_done: tf.Tensor  # (B, N) bool


def search_texts(
    decoder: keras.Model, memory: Mapping[str, tf.Tensor], config: GenerateConfig
) -> TextSearch:
    """Searches for the `config.beams` best texts of each row.

    Each step extends all partial texts of all rows by one token, until the last one has
    its end token, after at most `max_tokens` others. A text that has ended keeps its
    place, and the most probable extensions of the others take the rest; with one beam
    that is a greedy search. With a temperature tokens are drawn instead: the same
    random numbers serve all rows, so that a row's text does not depend on its batch.

    Args:
        decoder: See `build_decoder`.
        memory: "memory" (B, K, D), "memory_mask" (B, K) bool and "embedding" (B, E), as
            the head gives them.
        config: Settings, with a number of tokens.

    Source: beams that shrink as texts end as in Sutskever et al., 2014,
    https://arxiv.org/abs/1409.3215; drawing by Gumbel noise, Maddison et al., 2014,
    https://arxiv.org/abs/1411.0030.
    """
    rows, beams = tf.shape(memory[MEMORY])[0], config.beams
    memory = {
        name: _repeat_rows(x, beams)
        for name, x in select_decoder_inputs(memory).items()
    }
    length = config.max_tokens + 2
    first = tf.one_hot(0, length, START, PADDING, dtype=tf.int32)
    state = _State(
        step=tf.constant(0),
        tokens=tf.tile(first[None, None], [rows, beams, 1]),
        # At first all beams are equal, and only one of them counts.
        log_probability=tf.tile([[0.0] + [IMPOSSIBLE] * (beams - 1)], [rows, 1]),
        is_done=tf.fill([rows, beams], False),
    )

    def is_unfinished(*state):
        return ~tf.reduce_all(_State(*state).is_done)

    def extend(*state):
        return _extend(_State(*state), decoder, memory, config)

    shapes = _State(
        step=tf.TensorShape([]),
        tokens=tf.TensorShape([None, beams, length]),
        log_probability=tf.TensorShape([None, beams]),
        is_done=tf.TensorShape([None, beams]),
    )
    steps = config.max_tokens + 1
    state = tf.while_loop(
        is_unfinished, extend, state, shapes, maximum_iterations=steps
    )
    return _sort(state, config)


def _repeat_rows(x, times):
    return x if times == 1 else tf.repeat(x, times, axis=0)


def _extend(state, decoder, memory, config) -> _State:
    """Adds a token to each partial text."""
    step, tokens, total, is_done = state
    rows, beams = tf.shape(tokens)[0], config.beams
    read = tf.reshape(tokens[:, :, : step + 1], [rows * beams, step + 1])
    logits = decoder({**memory, TOKENS: read}, training=False)[LOGITS][:, -1]
    is_last = step >= config.max_tokens
    each = next_log_probabilities(logits, is_last)  # (B * N, V)
    if config.is_sampled:
        choice = _draw(each, step, config)  # (B,)
        gain = tf.gather(each, choice, batch_dims=1)
        parent = tf.zeros([rows, 1], tf.int32)
        token = tf.where(is_done, PADDING, choice[:, None])
        total += tf.where(is_done, 0.0, gain[:, None])
    else:
        each = tf.reshape(each, [rows, beams, each.shape[1]])
        parent, token, total = _choose(each, total, is_done)
    tokens = tf.gather(tokens, parent, batch_dims=1)
    is_done = tf.gather(is_done, parent, batch_dims=1) | (token == END)
    place = tf.range(config.max_tokens + 2) == step + 1
    tokens = tf.where(place, token[:, :, None], tokens)
    return _State(step + 1, tokens, total, is_done)


def next_log_probabilities(logits: tf.Tensor, is_last: tf.Tensor) -> tf.Tensor:
    """Returns log probabilities (N, V) of the next token among those that are possible.

    Padding, the start token and the unknown token are not, and where `is_last` (() or
    (N, 1) bool) only the end token is. Logits that are no numbers count as the end.
    """
    ids = tf.range(logits.shape[-1])
    broken = tf.where(ids == END, 0.0, IMPOSSIBLE)
    logits = tf.where(tf.math.is_nan(logits), broken, logits)
    is_token = (ids == END) | (ids >= FIRST_TOKEN)
    is_possible = is_token & ((ids == END) | ~is_last)
    return tf.nn.log_softmax(tf.where(is_possible, logits, IMPOSSIBLE))


def _choose(each, total, is_done):
    """Returns parent, token and log probability (B, N) of the best extensions.

    `each` is (B, N, V). A text that is done has one extension, by padding, which comes
    before all others, unless it is one that does not count. A token that is not
    possible is never chosen, as each text has an extension.
    """
    size, beams = each.shape[2], each.shape[1]
    is_padding = tf.range(size) == PADDING
    sums = total[:, :, None] + each
    counts = total > IMPOSSIBLE / 2  # (B, N)
    done = tf.where(counts, -IMPOSSIBLE, total)[:, :, None]
    done = tf.where(is_padding, done, 4 * IMPOSSIBLE)
    ranks = tf.where(each > IMPOSSIBLE / 2, sums, 4 * IMPOSSIBLE)
    ranks = tf.where(is_done[:, :, None], done, ranks)
    _, index = tf.math.top_k(tf.reshape(ranks, [-1, beams * size]), beams)
    sums = tf.where(is_done[:, :, None], total[:, :, None], sums)
    sums = tf.gather(tf.reshape(sums, [-1, beams * size]), index, batch_dims=1)
    return index // size, index % size, sums


def _draw(each, step, config):
    """Returns a random token (B,) int32 per row."""
    is_possible = each > IMPOSSIBLE / 2
    if config.top_k:
        best, _ = tf.math.top_k(each, min(config.top_k, each.shape[1]))
        is_possible &= each >= best[:, -1:]
    scaled = (each - tf.reduce_max(each, axis=1, keepdims=True)) / config.temperature
    scaled = tf.where(is_possible, scaled, float("-inf"))
    seed = tf.stack([config.seed, step])
    tiny = 1e-30
    uniform = tf.random.stateless_uniform([each.shape[1]], seed, minval=tiny)
    noise = -tf.math.log(-tf.math.log(uniform))
    return tf.argmax(scaled + noise, axis=1, output_type=tf.int32)


def _sort(state, config) -> TextSearch:
    """Returns the texts of each row by their score, the highest first."""
    tokens = state.tokens[:, :, 1:]
    scores = normalize_score(state.log_probability, tokens, config)
    is_possible = state.log_probability > IMPOSSIBLE / 2
    scores = tf.where(is_possible, scores, IMPOSSIBLE)
    order = tf.argsort(scores, axis=1, direction="DESCENDING", stable=True)
    return TextSearch(
        tokens=tf.gather(tokens, order, batch_dims=1),
        scores=tf.gather(scores, order, batch_dims=1),
    )


def normalize_score(
    log_probability: tf.Tensor, tokens: tf.Tensor, config: GenerateConfig
) -> tf.Tensor:
    """Divides log probabilities (...) of texts by a power of their length.

    `tokens` is (..., L), 0 in padding, and includes the end token.
    """
    count = tf.reduce_sum(tf.cast(tokens != PADDING, tf.float32), axis=-1)
    return log_probability / tf.maximum(count, 1.0) ** config.length_penalty


def token_log_probabilities(
    decoder: keras.Model,
    memory: Mapping[str, tf.Tensor],
    tokens: tf.Tensor,
    config: GenerateConfig,
) -> tf.Tensor:
    """Returns the log probability of each token of given texts, (B, L) float32.

    `tokens` is (B, L) int32 without the start token, 0 in padding, where the result is
    0; L is max_tokens + 1. `memory` is as for `search_texts`, whose scores these are.
    An unknown token has one of about -1e9, as it is never chosen.
    """
    read = tf.concat([tf.fill([tf.shape(tokens)[0], 1], START), tokens[:, :-1]], axis=1)
    inputs = {**select_decoder_inputs(memory), TOKENS: read}
    logits = decoder(inputs, training=False)[LOGITS]  # (B, L, V)
    is_last = tf.range(tf.shape(tokens)[1]) >= config.max_tokens
    each = next_log_probabilities(logits, is_last[None, :, None])
    chosen = tf.gather(each, tokens, batch_dims=2)
    return tf.where(tokens == PADDING, 0.0, chosen)
