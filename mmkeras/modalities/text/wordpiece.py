"""WordPiece tokenization with core TensorFlow ops, and learning of its pieces."""

from collections.abc import Mapping

import tensorflow as tf

from mmkeras.environment.extras import import_extra
from mmkeras.errors import UserError
from mmkeras.modalities.preprocessing_state import NO_TOKENS
from mmkeras.modalities.text.pieces import CONTINUATION, UNKNOWN_PIECE

_MAX_WORD = 100  # letters, as in BERT; a longer word is unknown
_MAX_PIECE = 32  # letters of a learned piece


def learn_pieces(
    words: Mapping[bytes, int], size: int, min_count: int, section: str = "text"
) -> tuple[str, ...]:
    """Learns a vocabulary of word pieces.

    The most common letters are pieces, so that few new words are unknown; the other
    pieces are the most frequent parts of words.

    `words` is word -> number of texts that contain it, and `min_count` the minimum sum
    over the words that contain a piece. Without words the result is `NO_TOKENS`.
    `section` is that of the settings, for errors.

    Raises:
        UserError: `size` is too small for any of the words.

    Source: the top-down learner of TensorFlow Text.
    """
    counts = [
        (word.decode(), count)
        for word, count in sorted(words.items())
        if len(word.decode()) <= _MAX_PIECE
    ]
    if not counts:
        return NO_TOKENS
    module = "tensorflow_text.tools.wordpiece_vocab.wordpiece_tokenizer_learner_lib"
    setting = f"{section}.tokens=wordpiece without {section}.vocab_file"
    learner = import_extra(module, setting)
    pieces = learner.learn(
        counts,
        vocab_size=size,
        reserved_tokens=[],
        lower_thresh=min_count,
        max_token_length=_MAX_PIECE,
        max_unique_chars=max(1, size // 2),  # each is two pieces, "a" and "##a"
    )
    if not pieces:
        raise UserError(
            f"{section}.vocab_size={size} is too small to learn word pieces of these "
            "texts; give 200 or more."
        )
    return tuple(pieces[:size])


def split_words(
    words: tf.RaggedTensor, table: tf.lookup.StaticHashTable, longest: int
) -> tf.RaggedTensor:
    """Splits words greedily into the longest pieces, from the left.

    (B, L) ragged strings of valid UTF-8 -> (B, L') ragged strings; "[UNK]" for a word
    with a rest that is no piece. `table` is piece -> index, -1 if unknown; `longest`
    the result of `longest_piece`.

    Source: Wu et al., 2016, https://arxiv.org/abs/1609.08144, as BERT does it.
    """
    distinct, index = tf.unique(words.flat_values)
    pieces = _split(distinct, table, longest)  # (W, pieces) ragged
    pieces = tf.gather(pieces, index)  # (all words, pieces) ragged
    return words.with_flat_values(pieces).merge_dims(1, 2)


def _split(words, table, longest):
    """Splits (W,) distinct words into (W, pieces) ragged."""
    letters = tf.strings.length(words, "UTF8_CHAR")
    is_short = letters <= _MAX_WORD
    lengths = tf.range(1, longest + 1)  # (P,)
    letters = tf.where(is_short, letters, 0)
    words = tf.where(is_short, words, "")
    max_steps = tf.reduce_max(tf.concat([letters, [0]], 0))

    def is_unfinished(step, start, known, pieces):
        return tf.reduce_any(known & (start < letters)) & (step < max_steps)

    def add_piece(step, start, known, pieces):
        offset = start[:, None] + tf.zeros_like(lengths)[None, :]  # (W, P)
        candidates = tf.strings.substr(
            tf.repeat(words[:, None], longest, axis=1),
            offset,
            tf.zeros_like(offset) + lengths,
            "UTF8_CHAR",
        )
        prefix = tf.where(offset > 0, CONTINUATION, "")
        candidates = tf.strings.join([prefix, candidates])
        fits = lengths[None, :] <= (letters - start)[:, None]
        is_piece = fits & (table.lookup(candidates) >= 0)
        length = tf.reduce_max(tf.where(is_piece, lengths, 0), axis=1)  # (W,)
        has_rest = known & (start < letters)
        longest_match = tf.gather(candidates, tf.maximum(length - 1, 0), batch_dims=1)
        piece = tf.where(has_rest & (length > 0), longest_match, "")
        known &= (length > 0) | ~has_rest
        start += tf.where(has_rest, length, 0)
        return step + 1, start, known, pieces.write(step, piece)

    array = tf.TensorArray(
        tf.string, 0, dynamic_size=True, element_shape=[None], infer_shape=False
    )
    state = (tf.constant(0), tf.zeros_like(letters), is_short, array)
    steps, _, known, array = tf.while_loop(is_unfinished, add_piece, state)
    pieces = tf.cond(
        steps > 0,
        lambda: tf.transpose(array.stack()),
        lambda: tf.fill([tf.size(words), 0], ""),
    )  # (W, steps)
    pieces = tf.ragged.boolean_mask(pieces, known[:, None] & (pieces != ""))
    unknown = tf.RaggedTensor.from_row_lengths(
        tf.fill([tf.reduce_sum(tf.cast(~known, tf.int32))], UNKNOWN_PIECE),
        tf.cast(~known, tf.int64),
    )
    return tf.concat([pieces, unknown], axis=1)
