"""Words -> word pieces, with core operations; and the vocabularies of pieces."""

from collections.abc import Mapping

import tensorflow as tf

from mmkeras.environment.extras import import_extra
from mmkeras.errors import UserError
from mmkeras.files import read_text
from mmkeras.modalities.preprocessing_state import RESERVED

# What a vocabulary calls words that it has no pieces for, and a text's ends.
UNKNOWN_PIECE, FIRST_PIECE, LAST_PIECE = "[UNK]", "[CLS]", "[SEP]"
_PADDING_PIECE = "[PAD]"
_INSIDE = "##"  # begins a piece that does not begin a word
_LONGEST_WORD = 100  # letters, as in BERT; longer ones are unknown
_LONGEST_PIECE = 32  # letters of a learned one


def learn_pieces(
    words: Mapping[bytes, int], size: int, min_count: int
) -> tuple[str, ...]:
    """Learns a vocabulary from words and how many texts have each.

    The most common letters are pieces, so that few words never seen are unknown; the
    other pieces are those that most words share.

    Args:
        words: Word -> count.
        size: Pieces, at most.
        min_count: A piece that words with fewer counts in all have is not kept.

    Returns:
        The pieces; "" alone where there are no words.

    Raises:
        UserError: There are words, and too few pieces for any of them.

    Source: the top-down learner of TensorFlow Text.
    """
    known = [
        (word.decode(), count)
        for word, count in sorted(words.items())
        if len(word.decode()) <= _LONGEST_PIECE
    ]
    if not known:
        return ("",)
    learner = import_extra(
        "tensorflow_text.tools.wordpiece_vocab.wordpiece_tokenizer_learner_lib",
        "text.tokens=wordpiece without text.vocab_file",
    )
    pieces = learner.learn(
        known,
        vocab_size=size,
        reserved_tokens=[],
        lower_thresh=min_count,
        max_token_length=_LONGEST_PIECE,
        max_unique_chars=max(1, size // 2),  # each stands twice, as "a" and "##a"
    )
    if not pieces:
        raise UserError(
            f"text.vocab_size={size} is too small to learn word pieces of these texts; "
            "give some hundreds."
        )
    return tuple(pieces[:size])


def read_pieces(path: str) -> tuple[str, ...]:
    """Reads a vocab.txt of BERT, one piece a line; the line is the token's number.

    Returns:
        The pieces from number `RESERVED` on.

    Raises:
        UserError: It is no such file.
    """
    try:
        lines = [line.rstrip("\r") for line in read_text(path).split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"text.vocab_file='{path}' cannot be read: {error}.") from None
    pieces = lines[:-1] if lines[-1] == "" else lines
    unknown = pieces.index(UNKNOWN_PIECE) if UNKNOWN_PIECE in pieces else 0
    if pieces[:1] != [_PADDING_PIECE] or not unknown or len(set(pieces)) < len(pieces):
        raise UserError(
            f"text.vocab_file='{path}' must have one piece a line, each once: "
            f"'{_PADDING_PIECE}' first, and '{UNKNOWN_PIECE}'."
        )
    second = pieces[1]
    if second != UNKNOWN_PIECE and not second.startswith("[unused"):
        raise UserError(
            f"text.vocab_file='{path}' has '{second}' in its second line, and number 1 "
            f"is of unknown words here: '{UNKNOWN_PIECE}' or '[unused0]' belongs there."
        )
    return tuple(pieces[RESERVED:])


def longest_piece(vocabulary: tuple[str, ...]) -> int:
    """Returns the letters of the longest piece, at least 1."""
    return max([1, *(len(piece.removeprefix(_INSIDE)) for piece in vocabulary)])


def split_words(
    words: tf.RaggedTensor, table: tf.lookup.StaticHashTable, longest: int
) -> tf.RaggedTensor:
    """Splits words into the longest pieces there are, from the left.

    Args:
        words: (B, L) ragged strings, valid UTF-8.
        table: Piece -> place, -1 where there is none.
        longest: Letters of the longest piece.

    Returns:
        (B, L') ragged strings; "[UNK]" for a word that cannot be split wholly.

    Source: Wu et al., 2016, https://arxiv.org/abs/1609.08144, as BERT does it.
    """
    distinct, place = tf.unique(words.flat_values)
    pieces = _split(distinct, table, longest)  # (W, pieces) ragged
    of_word = tf.gather(pieces, place)  # (all words, pieces) ragged
    return words.with_flat_values(of_word).merge_dims(1, 2)


def _split(words, table, longest):
    """(W,) distinct words to (W, pieces) ragged."""
    letters = tf.strings.length(words, "UTF8_CHAR")
    whole = letters <= _LONGEST_WORD
    lengths = tf.range(1, longest + 1)  # (P,)
    letters = tf.where(whole, letters, 0)
    words = tf.where(whole, words, "")
    most = tf.reduce_max(tf.concat([letters, [0]], 0))

    def unfinished(step, start, known, found):
        return tf.reduce_any(known & (start < letters)) & (step < most)

    def one_piece(step, start, known, found):
        at = start[:, None] + tf.zeros_like(lengths)[None, :]  # (W, P)
        candidates = tf.strings.substr(
            tf.repeat(words[:, None], longest, axis=1),
            at,
            tf.zeros_like(at) + lengths,
            "UTF8_CHAR",
        )
        candidates = tf.strings.join([tf.where(at > 0, _INSIDE, ""), candidates])
        fits = lengths[None, :] <= (letters - start)[:, None]
        is_piece = fits & (table.lookup(candidates) >= 0)
        length = tf.reduce_max(tf.where(is_piece, lengths, 0), axis=1)  # (W,)
        goes_on = known & (start < letters)
        chosen = tf.gather(candidates, tf.maximum(length - 1, 0), batch_dims=1)
        piece = tf.where(goes_on & (length > 0), chosen, "")
        known &= (length > 0) | ~goes_on
        start += tf.where(goes_on, length, 0)
        return step + 1, start, known, found.write(step, piece)

    found = tf.TensorArray(
        tf.string, 0, dynamic_size=True, element_shape=[None], infer_shape=False
    )
    state = (tf.constant(0), tf.zeros_like(letters), whole, found)
    steps, _, known, found = tf.while_loop(unfinished, one_piece, state)
    pieces = tf.cond(
        steps > 0,
        lambda: tf.transpose(found.stack()),
        lambda: tf.fill([tf.size(words), 0], ""),
    )  # (W, steps)
    pieces = tf.ragged.boolean_mask(pieces, known[:, None] & (pieces != ""))
    unknown = tf.RaggedTensor.from_row_lengths(
        tf.fill([tf.reduce_sum(tf.cast(~known, tf.int32))], UNKNOWN_PIECE),
        tf.cast(~known, tf.int64),
    )
    return tf.concat([pieces, unknown], axis=1)
