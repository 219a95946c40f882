"""Texts of the label column: tokens, vocabulary and token ids, and texts from ids.

All functions of the graph are of core ops, as the served model needs them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import tensorflow as tf

from mmkeras.config import Config, GenerateConfig
from mmkeras.config.validation import AUTO
from mmkeras.errors import UserError
from mmkeras.files import read_text
from mmkeras.modalities.preprocessing_state import (
    END,
    FIRST_TOKEN,
    PADDING,
    START,
    UNKNOWN,
    PreprocessingState,
    TextStatistics,
)
from mmkeras.modalities.text.characters import WordSplitter
from mmkeras.modalities.text.features import token_table
from mmkeras.modalities.text.pieces import CONTINUATION, longest_piece, read_pieces
from mmkeras.modalities.text.wordpiece import learn_pieces, split_words
from mmkeras.modalities.vocabulary import choose_vocabulary
from mmkeras.names import clean_name, split_references

MAX_TOKENS = 64  # of "auto"
_BATCH_TEXTS = 1024
_HAN, _KANA = r"\p{Han}。、，！？：；「」『』（）《》〈〉", r"\p{Hiragana}\p{Katakana}"
# Where no blank is written between words and marks, in the order of the rules. A match
# begins after the one before, so that rules of neighbors, as in 1,000,000, are twice.
_JOINS = (
    (r" ([.,!?;:%)\]}…])", r"\1"),
    (r"([(\[{]) ", r"\1"),
    (r"([$#]) (\d)", r"\1\2"),
    (r'(^|[^\d]) " ([^"]*) "', r'\1 "\2"'),  # not 15 " for inches
    (r" (['’]) (s|t|d|m|re|ve|ll|em)([^\pL]|$)", r"\1\2\3"),  # don't
    (r" ([cdjlmnosty]|qu) (['’]) ", r" \1\2"),  # l'homme
    (r"(\pL) (['’])", r"\1\2"),  # dogs'
    (r" ([/-]) ", r"\1"),
    *[(r"(\d[.:]) (\d)", r"\1\2")] * 2,
    *[(r"([^\d]\d{1,3},) (\d{3})([^\d]|$)", r"\1\2\3")] * 2,
    *[(f"([{_HAN}]) ([{_HAN}{_KANA}])", r"\1\2")] * 2,
    (f"([{_KANA}]) ([{_HAN}])", r"\1\2"),
)


class TargetTokenizer:
    """Graph functions between texts and token ids.

    Texts are lower-cased. Tokens are words and punctuation marks, pieces of words, or
    characters; blanks are tokens among characters only.

    Args:
        config: Settings `generate`, with a number of tokens.
        vocabulary: That of `TextStatistics`.

    Example:
        >>> tokenizer = TargetTokenizer(GenerateConfig(max_tokens=3), ("a", "seven"))
        >>> tokenizer.ids(tf.constant(["A seven"])).numpy()
        array([[2, 4, 5, 3, 0]], dtype=int32)
        >>> tokenizer.texts(tf.constant([[4, 5, 3, 0]])).numpy()
        array([b'a seven'], dtype=object)
    """

    def __init__(self, config: GenerateConfig, vocabulary: Sequence[str]):
        self._config = config
        self._table = token_table(list(vocabulary))
        self._tokens = tf.constant(["", "", "", "", *vocabulary])
        self._longest = longest_piece(tuple(vocabulary))

    @property
    def resources(self) -> list:
        """Objects that an export must track."""
        return [self._table]

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return len(self._tokens)

    def split(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Splits texts into tokens: (B,) strings to (B, L) ragged strings."""
        words = split_text(texts, self._config.tokens)
        if self._config.tokens != "wordpiece":
            return words
        return split_words(words, self._table, self._longest)

    def ids(self, texts: tf.Tensor) -> tf.Tensor:
        """Returns token ids, (B, max_tokens + 2) int32: START, the first tokens, END.

        `PADDING` follows, and `UNKNOWN` is a token that is not in the vocabulary.
        """
        tokens = self.split(texts)[:, : self._config.max_tokens]
        index = tf.cast(self._table.lookup(tokens.flat_values), tf.int32)
        known = tf.where(index < 0, UNKNOWN, index + FIRST_TOKEN)
        ids = tokens.with_flat_values(known)
        first, last = (tf.fill([ids.nrows(), 1], token) for token in (START, END))
        ids = tf.concat([first, ids, last], axis=1)
        length = self._config.max_tokens + 2
        padded = ids.to_tensor(PADDING, shape=[None, length])
        return tf.ensure_shape(padded, [None, length])

    def texts(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the texts of token ids before the first END: (N, L) to (N,)."""
        is_end = tf.cast(ids == END, tf.int32)
        is_token = (tf.cumsum(is_end, axis=1) == 0) & (ids >= FIRST_TOKEN)
        tokens = tf.where(is_token, tf.gather(self._tokens, ids), "")
        if self._config.tokens == "character":
            return tf.strings.strip(tf.strings.reduce_join(tokens, axis=1))
        marked = tf.where(is_token, tf.strings.join([" ", tokens]), "")
        text = tf.strings.reduce_join(marked, axis=1)
        if self._config.tokens == "wordpiece":
            text = tf.strings.regex_replace(text, f" {CONTINUATION}", "")
        for pattern, result in _JOINS:
            text = tf.strings.regex_replace(text, pattern, result)
        return tf.strings.strip(text)


def split_text(texts: tf.Tensor, tokens: str) -> tf.RaggedTensor:
    """Splits lower-cased texts: (B,) strings to (B, L) ragged words or characters."""
    words = WordSplitter(keep_case=False, keep_accents=True)(texts)
    if tokens != "character":
        return words
    clean = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="replace")
    lower = tf.strings.lower(tf.strings.strip(clean), encoding="utf-8")
    single = tf.strings.regex_replace(lower, r"\s+", " ")
    return tf.strings.unicode_split(single, "UTF-8")


def measure_texts(labels: Mapping[str, int], config: GenerateConfig) -> TextStatistics:
    """Measures the labels of the training rows, label -> number of rows.

    Raises:
        UserError: The vocabulary file cannot be read, or `vocab_size` is too small.
    """
    texts, tokens = Counter(), Counter()
    for label, rows in sorted(labels.items()):
        for text in split_references(label):
            texts[text.lower()] += rows
    names = sorted(texts)
    for text, row in _split_batches(names, lambda x: split_text(x, config.tokens)):
        for token in set(row):
            tokens[token] += texts[text]
    vocabulary = _choose_vocabulary(tokens, len(names), config)
    known = {token.encode() for token in vocabulary}
    longest = all_tokens = unknown = 0
    split = TargetTokenizer(config, vocabulary).split
    for text, row in _split_batches(names, split):
        longest = max(longest, len(row))
        all_tokens += texts[text] * len(row)
        unknown += texts[text] * sum(token not in known for token in row)
    return TextStatistics(
        vocabulary=vocabulary,
        longest=longest,
        most_frequent=max(names, key=lambda text: (texts[text], text)),
        unknown_share=unknown / max(all_tokens, 1),
    )


def _choose_vocabulary(counts, texts, config) -> tuple[str, ...]:
    if pieces := read_vocabulary(config):
        if config.tokens == "word" and not counts.keys() & {x.encode() for x in pieces}:
            raise UserError(
                f"generate.vocab_file='{config.vocab_file}' has no word of the "
                "training texts. Give a file of one word per line."
            )
        return pieces
    if config.tokens == "wordpiece":
        return learn_pieces(counts, config.vocab_size, 1, section="generate")
    return choose_vocabulary(counts, texts, config.vocab_size, min_rows=1)[0]


def read_vocabulary(config: GenerateConfig) -> tuple[str, ...]:
    """Reads the tokens of `vocab_file`, or returns ().

    Special pieces of BERT, such as [UNK], are no tokens of a text.

    Raises:
        UserError: The file cannot be read, or is no such vocabulary.
    """
    path, name = config.vocab_file, f"generate.vocab_file='{config.vocab_file}'"
    if not path:
        return ()
    if config.tokens == "wordpiece":
        pieces = read_pieces(path, name)
        return tuple(x for x in pieces if not (x[0] == "[" and len(x) > 1))
    try:
        lines = read_text(path).split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name} cannot be read: {error}.") from None
    names = list(map(clean_name, lines))
    rows = _split_batches(names, lambda x: split_text(x, config.tokens))
    words = [word.decode() for _, row in rows for word in row]
    if not words:
        raise UserError(f"{name} has no words. Give a file of one word per line.")
    return tuple(dict.fromkeys(words))


def _split_batches(texts, split):
    """Yields each text and its tokens, by a function of batches (B,) of the graph."""
    for i in range(0, len(texts), _BATCH_TEXTS):
        batch = texts[i : i + _BATCH_TEXTS]
        yield from zip(batch, split(tf.constant(batch)).to_list(), strict=True)


def with_text_length(config: Config, state: PreprocessingState) -> Config:
    """Returns the settings with a number in the place of an "auto" of max_tokens.

    It is the number of tokens of the longest training text, at most `MAX_TOKENS`.
    """
    if state.texts is None or config.generate.max_tokens != AUTO:
        return config
    length = max(1, min(state.texts.longest, MAX_TOKENS))
    return replace(config, generate=replace(config.generate, max_tokens=length))
