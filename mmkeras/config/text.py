"""Settings of text preprocessing and of the text encoder."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import AUTO, Frozen, check, check_multiple, check_range
from mmkeras.errors import UserError

TextEncoder = Literal["tfidf", "hub", "vector", "lstm", "gru", "transformer", "bert"]


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Text branch.

    Attributes:
        encoder: For one vector per row: tfidf (tokens of the training rows), hub (a
            TF-Hub sentence encoder) or vector (.npy paths in the column). For token
            sequences: lstm, gru or transformer on learned embeddings, or bert.
        tokens: word; char for character n-grams inside words, which also cover words
            outside the training rows; or wordpiece, the longest pieces of a vocabulary,
            for encoders of sequences. auto is wordpiece with pretrained weights, word
            for other encoders of sequences, and else char.
        vocab_file: For wordpiece: a vocab.txt of BERT; empty is that of `weights`, or
            learns the pieces from the training rows.
        max_ngram: Longest n-gram of characters.
        min_rows: Minimum number of training rows with a token of the vocabulary.
        vocab_size: Size of the vocabulary, the most frequent tokens first; with tfidf
            the width of the vector.
        max_tokens: Tokens used, from the start, by encoders of sequences.
        hub_handle: TF-Hub handle or local folder, for encoder hub.
        weights: For bert: none, or pretrained weights with their sizes and vocabulary:
            a folder of Hugging Face (config.json, vocab.txt, model.safetensors) of a
            BERT, DistilBERT or ELECTRA, a preset folder of KerasHub's BERT, or a handle
            of one of these (hf://NAME, kaggle://NAME, or the name of a preset). A
            .weights.h5 file of KerasHub's BERT needs `vocab_file` and the sizes.
        frozen: Whether the pretrained encoder keeps its weights; its output is then
            computed once and cached. auto means yes.
        dropout: Dropout rate of the vector; not of a pretrained one.
        units: Width of the dense layer (0: no layer), of the LSTM or GRU, or inside the
            Transformer.
        layers: Transformer blocks.
        heads: Attention heads.
        pooling: Pooling of tokens to one vector, for a fusion of vectors; cls is the
            first token. auto is that of pretrained weights if they have one, else mean.
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
    frozen: Frozen = AUTO
    dropout: float = 0.5
    units: int = 256
    layers: int = 2
    heads: int = 4
    pooling: Literal["auto", "mean", "cls", "max", "last", "attention"] = AUTO

    def __post_init__(self):
        names = ("vocab_size", "min_rows", "layers", "heads")
        check_range(self, *(f"text.{name}" for name in names), ge=1)
        check_range(self, "text.dropout", ge=0, lt=1)
        check_range(self, "text.max_ngram", ge=1, le=8)
        has_units = self.is_sequence and not self.has_model
        check_range(self, "text.units", ge=1 if has_units else 0)
        if self.encoder in ("transformer", "bert"):
            check_multiple(self, "text.units", of="text.heads")
        check(
            self.tokens != "wordpiece" or self.is_sequence,
            "text.tokens",
            self.tokens,
            f"word or char with text.encoder={self.encoder}; wordpiece goes with lstm, "
            "gru, transformer and bert",
        )
        has_pieces = not self.vocab_file or self.has_pieces
        allowed = f"empty with text.tokens={self.tokens}"
        check(has_pieces, "text.vocab_file", self.vocab_file, allowed)
        # BERT's sequences include [CLS] and [SEP].
        has_ends = self.vocab_file or self.is_pretrained
        check_range(self, "text.max_tokens", ge=3 if has_ends else 1)
        if self.encoder == "hub" and not self.hub_handle:
            raise UserError(
                "text.encoder=hub needs text.hub_handle: a TF-Hub handle or the "
                "folder of a downloaded module."
            )
        self._check_weights()

    def _check_weights(self):
        if not self.is_pretrained:
            has_weights, frozen = self.weights != "none", self.frozen == "yes"
            allowed = f"none with text.encoder={self.encoder}; bert takes weights"
            check(not has_weights, "text.weights", self.weights, allowed)
            allowed = "auto or no without pretrained weights (text.weights)"
            check(not frozen, "text.frozen", self.frozen, allowed)
            return
        allowed = "wordpiece or auto with text.weights, which have word pieces"
        check(self.tokens in (AUTO, "wordpiece"), "text.tokens", self.tokens, allowed)
        if self.has_model:
            allowed = "empty with text.weights of a model, which has its vocabulary"
            check(not self.vocab_file, "text.vocab_file", self.vocab_file, allowed)
        elif not self.vocab_file:
            raise UserError(
                f"text.weights='{self.weights}' needs text.vocab_file: the vocab.txt "
                "of the model."
            )
        allowed = "auto, mean, cls, max or last with pretrained text.weights"
        is_trained = self.pooling == "attention"
        check(not is_trained, "text.pooling", self.pooling, allowed)

    @property
    def is_sequence(self) -> bool:
        """Whether the encoder reads token ids, (max_tokens,) per row."""
        return self.encoder in ("lstm", "gru", "transformer", "bert")

    @property
    def is_pretrained(self) -> bool:
        """Whether the encoder starts from pretrained weights."""
        return self.encoder == "bert" and self.weights != "none"

    @property
    def has_model(self) -> bool:
        """Whether the weights come with their sizes and vocabulary."""
        return self.is_pretrained and not self.weights.endswith(".h5")

    @property
    def is_frozen(self) -> bool:
        return self.is_pretrained and self.frozen != "no"

    @property
    def has_pieces(self) -> bool:
        """Whether tokens are pieces of words."""
        return self.tokens == "wordpiece" or self.is_pretrained

    @property
    def has_words(self) -> bool:
        """Whether tokens are words, rather than n-grams of characters or pieces."""
        if self.tokens == AUTO:
            return self.is_sequence and not self.has_pieces
        return self.tokens == "word"

    @property
    def has_vocabulary(self) -> bool:
        """Whether tokens are looked up in a vocabulary."""
        return self.is_sequence or self.encoder == "tfidf"
