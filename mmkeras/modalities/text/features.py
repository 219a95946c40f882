"""UTF-8 text -> tokens -> a vector or numbers. The same functions train and serve."""

import tensorflow as tf

from mmkeras.config import TextConfig
from mmkeras.modalities.preprocessing_state import PADDING, RESERVED, UNKNOWN

# Everything that is neither a letter, a digit, a mark nor an apostrophe parts words.
_BETWEEN_WORDS = r"[^\pL\pN\pM']+"
# With word pieces, what is no letter, digit or mark is a word of its own, and so is
# each Chinese letter.
_SPACE, _OWN_WORD = r"[\s\pZ\pC]+", r"([^\pL\pN\pM\s]|\p{Han})"


def is_utf8(texts: tf.Tensor) -> tf.Tensor:
    """Tells which of the (B,) strings are valid UTF-8: (B,) bool."""
    clean = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
    return tf.strings.length(clean) == tf.strings.length(texts)


def tokenize(texts: tf.Tensor, config: TextConfig) -> tf.RaggedTensor:
    """Splits lower-cased text: (B,) strings -> (B, L) ragged strings.

    With tokens=word, runs of letters and digits. With tokens=char, all n-grams of
    1 to `max_ngram` characters inside each word, its ends marked by spaces. With
    tokens=wordpiece, the words that are to be split: runs of letters and digits, and
    each other sign.
    """
    clean = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    if config.tokens == "wordpiece":
        clean = tf.strings.regex_replace(clean, _SPACE, " ")
    lower = tf.strings.lower(clean, encoding="utf-8")
    if config.tokens == "wordpiece":
        return tf.strings.split(tf.strings.regex_replace(lower, _OWN_WORD, r" \1 "))
    words = tf.strings.split(tf.strings.regex_replace(lower, _BETWEEN_WORDS, " "))
    if config.tokens == "word":
        return words
    marked = tf.strings.join([" ", words.flat_values, " "])
    letters = tf.strings.unicode_split(marked, "UTF-8")  # (words, letters) ragged
    widths = list(range(1, config.max_ngram + 1))
    grams = tf.strings.ngrams(letters, widths, separator="")  # (words, L) ragged
    return words.with_flat_values(grams).merge_dims(1, 2)


def tfidf(
    tokens: tf.RaggedTensor, table: tf.lookup.StaticHashTable, idf: tf.Tensor
) -> tf.Tensor:
    """Counts known tokens and weighs them: (B, L) ragged -> (B, V) float32.

    A token seen n times in a row counts 1 + ln(n). Rows have length 1, or 0 where no
    token is known. V = len(idf).

    Source: Salton and Buckley, 1988, https://doi.org/10.1016/0306-4573(88)90021-0,
    with the smoothed idf of scikit-learn, ln((1 + N) / (1 + df)) + 1.
    """
    token = table.lookup(tokens.flat_values)  # (all,) int64, -1 when unknown
    place = tf.stack([tokens.value_rowids(), token], axis=1)
    place = tf.boolean_mask(place, token >= 0)
    shape = tf.stack([tokens.nrows(), tf.size(idf, tf.int64)])
    counts = tf.scatter_nd(place, tf.ones(tf.shape(place)[:1]), shape)
    weight = tf.where(counts > 0, 1 + tf.math.log(tf.maximum(counts, 1)), 0)
    vectors = tf.math.l2_normalize(weight * idf, axis=1)
    return tf.ensure_shape(vectors, [None, idf.shape[0]])


def tokens_to_ids(
    tokens: tf.RaggedTensor, table: tf.lookup.StaticHashTable, length: int
) -> tf.Tensor:
    """Numbers the first `length` tokens: (B, L) ragged strings -> (B, length) int32.

    `PADDING` fills up, `UNKNOWN` is not in the table, others begin at `RESERVED`.
    """
    places = table.lookup(tokens.flat_values)  # (all,) int64, -1 when unknown
    known = tf.cast(places, tf.int32) + RESERVED
    numbers = tokens.with_flat_values(tf.where(places < 0, UNKNOWN, known))
    padded = numbers.to_tensor(PADDING, shape=[None, length])
    return tf.ensure_shape(padded, [None, length])


def token_table(vocabulary: list[str]) -> tf.lookup.StaticHashTable:
    """Builds the lookup of token -> place in the vocabulary, -1 when unknown."""
    keys = tf.constant(vocabulary, tf.string)
    values = tf.range(len(vocabulary), dtype=tf.int64)
    initializer = tf.lookup.KeyValueTensorInitializer(keys, values)
    return tf.lookup.StaticHashTable(initializer, default_value=-1)
