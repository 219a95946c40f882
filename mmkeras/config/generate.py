"""Settings of the text decoder and of its search."""

from dataclasses import dataclass, fields
from typing import Any, Literal

from mmkeras.config.validation import AUTO, check, check_multiple, check_range
from mmkeras.errors import UserError

GENERATE = "generate"  # the task
_FUSIONS = ("concat", "cross_attention")


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """Decoder that writes a text from the branches, token by token.

    Attributes:
        decoder: transformer (causal attention to the tokens before, and attention to
            the branches' tokens) or lstm_attention (an LSTM with additive attention to
            them); both read the fused vector too.
        tokens: word; wordpiece (the longest pieces of a vocabulary); or character.
        vocab_size: Maximum size of the vocabulary, the most frequent tokens first; that
            of a `vocab_file` is its own.
        vocab_file: File of one word per line; for wordpiece a vocab.txt of BERT. Empty
            is the vocabulary of the training rows.
        max_tokens: Maximum number of tokens of a text. auto is that of the longest
            training text, at most 64.
        width: Width of the tokens in the decoder, and of the LSTM.
        layers: Blocks of the Transformer.
        heads: Attention heads of the Transformer.
        dropout: Dropout rate in the decoder.
        scheduled_sampling: Probability that training replaces a token of the input by
            the decoder's own prediction of it; above 0 a step decodes twice.
        beams: Partial texts that the search keeps; 1 is a greedy search.
        length_penalty: Exponent of a text's number of tokens, by which its log
            probability is divided before beams are compared; 0 favours short texts.
        temperature: Above 0 tokens are drawn, from softmax(logits / temperature); 0 is
            the search by `beams`.
        top_k: Number of the most probable tokens from which one is drawn; 0 is all.
        seed: Seed of tokens that are drawn.
    """

    decoder: Literal["transformer", "lstm_attention"] = "transformer"
    tokens: Literal["word", "wordpiece", "character"] = "word"
    vocab_size: int = 5000
    vocab_file: str = ""
    max_tokens: int | Literal["auto"] = AUTO
    width: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.1
    scheduled_sampling: float = 0.0
    beams: int = 1
    length_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self):
        names = ("vocab_size", "width", "layers", "heads")
        check_range(self, *(f"generate.{name}" for name in names), ge=1)
        check_range(self, "generate.beams", ge=1, le=100)
        check_range(self, "generate.max_tokens", ge=1, auto=True)
        if self.decoder == "transformer":
            check_multiple(self, "generate.width", of="generate.heads")
        check_range(self, "generate.dropout", ge=0, lt=1)
        check_range(self, "generate.scheduled_sampling", ge=0, le=1)
        names = ("generate.length_penalty", "generate.temperature")
        check_range(self, *names, ge=0, lt=float("inf"))
        check_range(self, "generate.top_k", "generate.seed", ge=0, lt=2**31)
        allowed = "empty with generate.tokens=character"
        is_allowed = self.tokens != "character" or not self.vocab_file
        check(is_allowed, "generate.vocab_file", self.vocab_file, allowed)
        self._check_search()

    def _check_search(self):
        if self.is_sampled and self.beams > 1:
            raise UserError(
                f"generate.temperature={self.temperature} draws one text and "
                f"generate.beams={self.beams} searches for the best of several: set "
                "generate.beams to 1 to draw, or generate.temperature to 0 to search."
            )
        allowed = "0 with generate.temperature=0, which draws no tokens"
        is_allowed = self.is_sampled or self.top_k == 0
        check(is_allowed, "generate.top_k", self.top_k, allowed)

    @property
    def is_sampled(self) -> bool:
        """Whether tokens are drawn, rather than searched for."""
        return self.temperature > 0


def check_generate(config: Any) -> None:
    """Checks that the settings of a `Config` with task=generate fit a decoder.

    Raises:
        UserError: A setting is for classes, or cannot be had with a decoder.
    """
    kind, reason = config.fusion.kind, f"with task={GENERATE}"
    allowed = f"{' or '.join(_FUSIONS)} {reason}, whose decoder reads tokens"
    check(kind in _FUSIONS, "fusion.kind", kind, allowed)
    if config.ensemble.is_active:
        raise UserError(
            "An ensemble (ensemble.presets, ensemble.folds) averages predictions, and "
            f"the texts of task={GENERATE} have no mean. Train one model."
        )
    labels = config.table.label_names
    if len(labels) > 1:
        raise UserError(
            f"table.label={config.table.label} names {len(labels)} columns, and "
            f"task={GENERATE} writes the text of one. Name that one; a comma in the "
            "name of a column must be changed in the table."
        )
    for name in ("text", "image", "audio", "vector", "tabular"):
        weight = getattr(config.loss, name)
        allowed = f"0 {reason}, which has no classifiers"
        check(not weight, f"loss.{name}", weight, allowed)
    train = config.train
    check(not train.oversample, "train.oversample", True, f"false {reason}")
    weights = train.class_weights
    allowed = f"none {reason}, which has no classes"
    # The default is ignored, as it is that of most presets.
    is_allowed = weights in ("none", type(train)().class_weights)
    check(is_allowed, "train.class_weights", weights, allowed)
    allowed = f"false {reason}, whose labels are written as they are"
    check(not config.table.join_labels, "table.join_labels", True, allowed)
    loss = config.loss.kind
    allowed = f"auto or cross_entropy {reason}"
    check(loss in (AUTO, "cross_entropy"), "loss.kind", loss, allowed)
    allowed = f"val_loss or val_accuracy {reason}"
    check(train.monitor != "val_auc", "train.monitor", train.monitor, allowed)
    n_best, beams = config.export.n_best, config.generate.beams
    if n_best > 1 and config.generate.is_sampled:
        raise UserError(
            f"export.n_best={n_best} asks for several texts, and generate.temperature="
            f"{config.generate.temperature} draws one. Set export.n_best to 0, or "
            f"generate.temperature to 0 and generate.beams to {n_best}."
        )
    if n_best > beams:
        raise UserError(
            f"export.n_best={n_best} asks for more texts than the search has, as "
            f"generate.beams={beams}. Set generate.beams={n_best}, or fewer texts."
        )


def check_no_decoder(config: Any) -> None:
    """Checks that a `Config` of another task has no settings of a decoder.

    Raises:
        UserError: It has.
    """
    for field in fields(GenerateConfig):
        value = getattr(config.generate, field.name)
        default = "empty" if field.default == "" else field.default
        allowed = f"{default} without --task {GENERATE}"
        is_default = value == field.default
        check(is_default, f"generate.{field.name}", value, allowed)
    n_best = config.export.n_best
    check(n_best == 0, "export.n_best", n_best, f"0 without --task {GENERATE}")
