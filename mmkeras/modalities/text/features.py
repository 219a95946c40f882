"""Text preprocessing in the graph: tokenization, tf-idf vectors and token ids."""

import tensorflow as tf

from mmkeras.config import TextConfig
from mmkeras.modalities.preprocessing_state import PADDING, RESERVED, UNKNOWN

# Words are separated by all but letters, digits, marks and apostrophes.
_SEPARATOR = r"[^\pL\pN\pM']+"
# For word pieces, each Chinese character is a word, and so is each character that is
# no letter, digit, mark or space.
_SPACE, _SINGLE = r"[\s\pZ\pC]+", r"([^\pL\pN\pM\s]|\p{Han})"


def is_utf8(texts: tf.Tensor) -> tf.Tensor:
    """Returns (B,) bool: whether each of the (B,) strings is valid UTF-8."""
    clean = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
    return tf.strings.length(clean) == tf.strings.length(texts)


def tokenize(texts: tf.Tensor, config: TextConfig) -> tf.RaggedTensor:
    """Splits lower-cased text: (B,) strings -> (B, L) ragged strings.

    tokens=word gives runs of letters and digits; tokens=char all n-grams of 1 to
    `max_ngram` characters inside each word, its ends marked by spaces;
    tokens=wordpiece the words for `split_words`: runs of letters and digits, and each
    other character by itself.
    """
    clean = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    if config.tokens == "wordpiece":
        clean = tf.strings.regex_replace(clean, _SPACE, " ")
    lower = tf.strings.lower(clean, encoding="utf-8")
    if config.tokens == "wordpiece":
        return tf.strings.split(tf.strings.regex_replace(lower, _SINGLE, r" \1 "))
    words = tf.strings.split(tf.strings.regex_replace(lower, _SEPARATOR, " "))
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
    """Counts and weights known tokens: (B, L) ragged -> (B, V) float32, V = len(idf).

    A token that a row has n times counts 1 + ln(n). Rows have length 1, or 0 without a
    known token.

    Source: Salton and Buckley, 1988, https://doi.org/10.1016/0306-4573(88)90021-0,
    with the smoothed idf of scikit-learn, ln((1 + N) / (1 + df)) + 1.
    """
    token = table.lookup(tokens.flat_values)  # (all,) int64, -1 when unknown
    index = tf.stack([tokens.value_rowids(), token], axis=1)
    index = tf.boolean_mask(index, token >= 0)
    shape = tf.stack([tokens.nrows(), tf.size(idf, tf.int64)])
    counts = tf.scatter_nd(index, tf.ones(tf.shape(index)[:1]), shape)
    weight = tf.where(counts > 0, 1 + tf.math.log(tf.maximum(counts, 1)), 0)
    vectors = tf.math.l2_normalize(weight * idf, axis=1)
    return tf.ensure_shape(vectors, [None, idf.shape[0]])


def tokens_to_ids(
    tokens: tf.RaggedTensor, table: tf.lookup.StaticHashTable, length: int
) -> tf.Tensor:
    """Looks up the first `length` tokens: (B, L) ragged strings -> (B, length) int32.

    `PADDING` fills short rows, and `UNKNOWN` is a token that is not in the table.
    """
    index = table.lookup(tokens.flat_values)  # (all,) int64, -1 when unknown
    known_ids = tf.cast(index, tf.int32) + RESERVED
    ids = tokens.with_flat_values(tf.where(index < 0, UNKNOWN, known_ids))
    padded = ids.to_tensor(PADDING, shape=[None, length])
    return tf.ensure_shape(padded, [None, length])


def token_table(vocabulary: list[str]) -> tf.lookup.StaticHashTable:
    """Builds the lookup of token -> index in the vocabulary, -1 when unknown."""
    keys = tf.constant(vocabulary, tf.string)
    values = tf.range(len(vocabulary), dtype=tf.int64)
    initializer = tf.lookup.KeyValueTensorInitializer(keys, values)
    return tf.lookup.StaticHashTable(initializer, default_value=-1)
