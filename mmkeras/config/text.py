"""Settings of the text branch."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import SHARE, Pooling, check
from mmkeras.errors import UserError

TextEncoder = Literal["tfidf", "hub", "vector", "lstm", "gru", "transformer", "bert"]


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Text branch.

    Attributes:
        encoder: Of one vector a row: tfidf (tokens found in the training rows), hub (a
            TF-Hub sentence encoder) or vector (.npy paths in the column). Of token
            sequences: lstm, gru or transformer over learned embeddings, or bert
            (KerasHub's BERT).
        tokens: word; char for character n-grams inside words; or wordpiece, for
            encoders of sequences, words in the longest pieces of a vocabulary.
        vocab_file: For wordpiece: a vocab.txt of BERT; empty learns the pieces from
            the training rows.
        max_ngram: Longest n-gram of characters.
        min_rows: A token that fewer training rows have is not kept.
        vocab_size: Tokens kept, the most frequent first; with tfidf the vector's width.
        max_tokens: Tokens used of a text, from its start, by encoders of sequences.
        hub_handle: TF-Hub handle or local folder, for encoder hub.
        weights: For bert: none, or the path of a .weights.h5 file of such a backbone.
        dropout: Dropped share of the vector.
        units: Width of the dense layer (0 is none: the vector itself), of the LSTM or
            GRU, or of the Transformer inside.
        layers: Transformer blocks.
        heads: Attention heads.
        pooling: How tokens become one vector, where fusion wants vectors.
    """

    encoder: TextEncoder = "tfidf"
    tokens: Literal["word", "char", "wordpiece"] = "word"
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
        for name in ("vocab_size", "min_rows", "layers", "heads"):
            value = getattr(self, name)
            check(value >= 1, f"text.{name}", value, "at least 1")
        check(0 <= self.dropout < 1, "text.dropout", self.dropout, SHARE)
        check(1 <= self.max_ngram <= 8, "text.max_ngram", self.max_ngram, "from 1 to 8")
        least = 1 if self.is_sequence else 0
        check(self.units >= least, "text.units", self.units, f"at least {least}")
        if self.encoder in ("transformer", "bert"):
            check(
                self.units % self.heads == 0,
                "text.units",
                self.units,
                f"a multiple of text.heads={self.heads}",
            )
        check(
            self.tokens != "wordpiece" or self.is_sequence,
            "text.tokens",
            self.tokens,
            f"word or char with text.encoder={self.encoder}; pieces go with lstm, "
            "gru, transformer and bert",
        )
        check(
            not self.vocab_file or self.tokens == "wordpiece",
            "text.vocab_file",
            self.vocab_file,
            f"empty with text.tokens={self.tokens}",
        )
        least = 3 if self.vocab_file else 1  # two are [CLS] and [SEP]
        allowed = f"at least {least}"
        check(self.max_tokens >= least, "text.max_tokens", self.max_tokens, allowed)
        if self.encoder == "hub" and not self.hub_handle:
            raise UserError(
                "text.encoder=hub needs text.hub_handle: a TF-Hub handle or the "
                "folder of a downloaded module."
            )

    @property
    def is_sequence(self) -> bool:
        """Whether the encoder reads token numbers, (max_tokens,) of each row."""
        return self.encoder in ("lstm", "gru", "transformer", "bert")

    @property
    def has_vocabulary(self) -> bool:
        """Whether tokens are looked up in what the training rows have taught."""
        return self.is_sequence or self.encoder == "tfidf"
