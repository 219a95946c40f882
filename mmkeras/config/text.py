"""Settings of text preprocessing and of the text encoder."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import AUTO, Pooling, check, check_multiple, check_range
from mmkeras.errors import UserError

TextEncoder = Literal["tfidf", "hub", "vector", "lstm", "gru", "transformer", "bert"]


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Text branch.

    Attributes:
        encoder: For one vector per row: tfidf (tokens of the training rows), hub (a
            TF-Hub sentence encoder) or vector (.npy paths in the column). For token
            sequences: lstm, gru or transformer on learned embeddings, or bert
            (KerasHub's BERT).
        tokens: word; char for character n-grams inside words, which also cover words
            outside the training rows; or wordpiece, the longest pieces of a vocabulary,
            for encoders of sequences. auto is word for these, and else char.
        vocab_file: For wordpiece: a vocab.txt of BERT; empty learns the pieces from
            the training rows.
        max_ngram: Longest n-gram of characters.
        min_rows: Minimum number of training rows with a token of the vocabulary.
        vocab_size: Size of the vocabulary, the most frequent tokens first; with tfidf
            the width of the vector.
        max_tokens: Tokens used, from the start, by encoders of sequences.
        hub_handle: TF-Hub handle or local folder, for encoder hub.
        weights: For bert: none, or the path of a .weights.h5 file of such a backbone.
        dropout: Dropout rate of the vector.
        units: Width of the dense layer (0: no layer), of the LSTM or GRU, or inside the
            Transformer.
        layers: Transformer blocks.
        heads: Attention heads.
        pooling: Pooling of tokens to one vector, for a fusion of vectors.
    """

    encoder: TextEncoder = "tfidf"
    tokens: Literal["auto", "word", "char", "wordpiece"] = AUTO
    vocab_file: str = ""
    max_ngram: int = 3
    min_rows: int = 2
    vocab_size: int = 512
    max_tokens: int = 64
    hub_handle: str = ""
    weights: str = "none"
    dropout: float = 0.5
    units: int = 256
    layers: int = 2
    heads: int = 4
    pooling: Pooling = "mean"

    def __post_init__(self):
        names = ("vocab_size", "min_rows", "layers", "heads")
        check_range(self, *(f"text.{name}" for name in names), ge=1)
        check_range(self, "text.dropout", ge=0, lt=1)
        check_range(self, "text.max_ngram", ge=1, le=8)
        check_range(self, "text.units", ge=1 if self.is_sequence else 0)
        if self.encoder in ("transformer", "bert"):
            check_multiple(self, "text.units", of="text.heads")
        check(
            self.tokens != "wordpiece" or self.is_sequence,
            "text.tokens",
            self.tokens,
            f"word or char with text.encoder={self.encoder}; wordpiece goes with lstm, "
            "gru, transformer and bert",
        )
        has_pieces = not self.vocab_file or self.tokens == "wordpiece"
        allowed = f"empty with text.tokens={self.tokens}"
        check(has_pieces, "text.vocab_file", self.vocab_file, allowed)
        # BERT's sequences include [CLS] and [SEP].
        check_range(self, "text.max_tokens", ge=3 if self.vocab_file else 1)
        if self.encoder == "hub" and not self.hub_handle:
            raise UserError(
                "text.encoder=hub needs text.hub_handle: a TF-Hub handle or the "
                "folder of a downloaded module."
            )

    @property
    def is_sequence(self) -> bool:
        """Whether the encoder reads token ids, (max_tokens,) per row."""
        return self.encoder in ("lstm", "gru", "transformer", "bert")

    @property
    def has_words(self) -> bool:
        """Whether tokens are words, rather than n-grams of characters or pieces."""
        return self.tokens == "word" or (self.tokens == AUTO and self.is_sequence)

    @property
    def has_vocabulary(self) -> bool:
        """Whether tokens are looked up in a vocabulary."""
        return self.is_sequence or self.encoder == "tfidf"
