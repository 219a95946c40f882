"""Text preprocessing in the graph: tokenization, tf-idf vectors and token ids."""

import tensorflow as tf

from mmkeras.config import TextConfig
from mmkeras.modalities.preprocessing_state import PADDING, RESERVED, UNKNOWN

# The emoji of Unicode and the symbols between them, also those not assigned yet; no
# letters, digits or marks.
_PICTOGRAPH = (
    r"[©®\x{203C}\x{2049}\x{2122}\x{2194}-\x{2199}\x{21A9}\x{21AA}\x{231A}\x{231B}"
    r"\x{2328}\x{23CF}\x{23E9}-\x{23FA}\x{24C2}\x{24DC}\x{25AA}\x{25AB}\x{25B6}\x{25C0}"
    r"\x{25FB}-\x{25FE}\x{2600}-\x{2775}\x{2794}-\x{27BF}\x{2934}\x{2935}"
    r"\x{2B05}-\x{2B07}\x{2B1B}\x{2B1C}\x{2B50}\x{2B55}\x{3030}\x{303D}\x{3297}\x{3299}"
    r"\x{1F000}-\x{1F0FF}\x{1F10D}-\x{1FAFF}]"
)
# With skin tone or tags; several are joined by U+200D.
_ELEMENT = _PICTOGRAPH + r"[\x{1F3FB}-\x{1F3FF}]?[\x{E0020}-\x{E007F}]*"
_KEYCAP, _FLAG = r"[0-9#*]\x{FE0F}?\x{20E3}", r"[\x{1F1E6}-\x{1F1FF}]{2}"
_EMOJI = rf"{_KEYCAP}|{_FLAG}|{_ELEMENT}(?:\x{{200D}}{_ELEMENT})*"
_TOKEN = rf"{_EMOJI}|[\pL\pN\pM']+"
# Tokens are first enclosed in two control characters, which no text has by then; what
# is outside them is dropped. A group in _TOKEN would take five times as long.
_ENCLOSED, _OUTSIDE = "\x01\\0\x02", "(?:^|\x02)[^\x01]*(?:\x01|$)"
# Selects whether a symbol is drawn in color; many keyboards leave it out.
_VARIATION = r"(^|[^\pL\pN\pM])[\x{FE0E}\x{FE0F}]+"


def is_utf8(texts: tf.Tensor) -> tf.Tensor:
    """Returns (B,) bool: whether each of the (B,) strings is valid UTF-8."""
    clean = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
    return tf.strings.length(clean) == tf.strings.length(texts)


def tokenize(texts: tf.Tensor, config: TextConfig) -> tf.RaggedTensor:
    """Splits lower-cased text: (B,) strings -> (B, L) ragged strings.

    tokens=word gives runs of letters and digits, and each emoji by itself, with its
    skin tone and what is joined to it; tokens=char all n-grams of 1 to `max_ngram`
    characters inside each of these, its ends marked by spaces.

    Source: Unicode Technical Standard 51, https://www.unicode.org/reports/tr51, for
    the sequences of an emoji; without the selectors of its variant.
    """
    clean = tf.strings.unicode_transcode(
        texts, "UTF-8", "UTF-8", errors="replace", replace_control_characters=True
    )
    lower = tf.strings.lower(clean, encoding="utf-8")
    symbols = tf.strings.regex_replace(lower, _VARIATION, r"\1")
    enclosed = tf.strings.regex_replace(symbols, _TOKEN, _ENCLOSED)
    words = tf.strings.split(tf.strings.regex_replace(enclosed, _OUTSIDE, " "))
    if config.has_words:
        return words
    marked = tf.strings.join([" ", words.flat_values, " "])
    letters = tf.strings.unicode_split(marked, "UTF-8")  # (words, letters) ragged
    widths = list(range(1, config.max_ngram + 1))
    grams = tf.strings.ngrams(letters, widths, separator="")  # (words, L) ragged
    return words.with_flat_values(grams).merge_dims(1, 2)


def has_word(text: bytes) -> bool:
    """Returns whether a text has a word or an emoji, so a token of words or n-grams."""
    if any(character.isalnum() for character in text.decode("utf-8", "replace")):
        return True
    tokens = tokenize(tf.constant([text]), TextConfig(tokens="word"))
    return len(tokens.flat_values) > 0


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
