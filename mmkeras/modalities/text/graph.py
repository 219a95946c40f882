"""Preprocessing of a text column in the graph."""

from collections.abc import Mapping

import tensorflow as tf

from mmkeras.modalities.branch import BranchColumn, BranchGraph
from mmkeras.modalities.text import features, pieces, wordpiece
from mmkeras.modalities.text.augmentation import drop_tokens
from mmkeras.modalities.text.characters import WordSplitter
from mmkeras.modalities.tf_hub import load_hub_encoder


class TextGraph(BranchGraph):
    """Graph from texts to tf-idf vectors, token ids or embeddings of a hub module."""

    def __init__(self, branch: BranchColumn, state: Mapping):
        self.branch, self._settings, self._state = branch, branch.settings, state
        self._table = self._hub = self._splitter = None
        if self._settings.has_vocabulary:
            vocabulary = state["vocabulary"]
            self._table = features.token_table(list(vocabulary))
            self._longest = pieces.longest_piece(vocabulary)
            self._has_ends = set(pieces.END_PIECES) <= set(vocabulary)
        if self._settings.has_pieces:
            self._splitter = WordSplitter.of_state(state)
        elif self._settings.encoder == "hub":
            self._hub = load_hub_encoder(self._settings.hub_handle)
        dtype = tf.int32 if self._settings.is_sequence else tf.float32
        self.input_spec = tf.TensorSpec([state["width"]], dtype)

    @property
    def resources(self) -> list:
        return [x for x in (self._table, self._hub) if x is not None]

    def decode(self, values, formats) -> tf.Tensor:
        """Returns the text, which needs no decoding."""
        return values[self.branch.name]

    def tokens(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Splits texts into tokens: (B,) strings -> (B, L) ragged strings."""
        if self._splitter is None:
            return features.tokenize(texts, self._settings)
        # Each word has at least one piece, so later words would be cut off anyway.
        words = self._splitter(texts)[:, : self._state["width"]]
        return wordpiece.split_words(words, self._table, self._longest)

    def finish_batch(self, texts, seed=None, augment=None) -> tf.Tensor:
        """Turns (B,) texts into the (B, ...) input of the model."""
        if self._hub is not None:
            return tf.ensure_shape(self._hub(texts), [None, self._state["width"]])
        tokens = self.tokens(texts)
        if seed is not None and augment.word_dropout:
            tokens = drop_tokens(tokens, seed, augment)
        if self._settings.is_sequence:
            length = self._state["width"]
            if self._has_ends:
                tokens = _with_ends(tokens, length)
            return features.tokens_to_ids(tokens, self._table, length)
        idf = tf.constant(self._state["idf"], tf.float32)
        return features.tfidf(tokens, self._table, idf)

    def __call__(self, data):
        texts = data[self.branch.name]
        exists = tf.strings.strip(texts) != ""
        ok = exists & features.is_utf8(texts)
        values = self.finish_batch(tf.where(ok, texts, ""))
        return values, {self.branch.name: (ok, exists)}


def _with_ends(tokens, length):
    """Adds [CLS] and [SEP]; the result has at most `length` tokens."""
    rows = tokens.nrows()
    first, last = (tf.fill([rows, 1], piece) for piece in pieces.END_PIECES)
    return tf.concat([first, tokens[:, : max(0, length - 2)], last], axis=1)
