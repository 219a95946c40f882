"""Settings of columns of numbers, categories and dates, and of their encoder."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import AUTO, check_multiple, check_range


@dataclass(frozen=True, kw_only=True)
class TabularConfig:
    """Branch of all columns of numbers, categories and dates.

    Attributes:
        encoder: mlp (dense layers) or ft_transformer (a Transformer with one token per
            column); auto is ft_transformer where the fusion takes tokens, else mlp.
        scale: standard (mean 0 and deviation 1 over the training rows) or quantile
            (normally distributed over the training rows, for numbers with outliers).
        min_rows: Minimum number of training rows with a category; a rarer one counts as
            unseen.
        max_categories: Categories per column, the most frequent first; others count as
            unseen.
        embedding: Width of the embedding of a category, for mlp.
        units: Width of the dense layers of mlp (0: no weights, only scaled numbers and
            one column per category), or of the tokens of ft_transformer.
        layers: Dense layers or Transformer blocks.
        heads: Attention heads of ft_transformer.
        dropout: Dropout rate of the dense layers; half of it inside the Transformer.
    """

    encoder: Literal["auto", "mlp", "ft_transformer"] = AUTO
    scale: Literal["standard", "quantile"] = "standard"
    min_rows: int = 2
    max_categories: int = 256
    embedding: int = 8
    units: int = 128
    layers: int = 1
    heads: int = 4
    dropout: float = 0.2

    def __post_init__(self):
        names = ("min_rows", "max_categories", "embedding", "layers", "heads")
        check_range(self, *(f"tabular.{name}" for name in names), ge=1)
        check_range(self, "tabular.units", ge=int(self.encoder == "ft_transformer"))
        check_range(self, "tabular.dropout", ge=0, lt=1)
        if self.encoder != "mlp":
            check_multiple(self, "tabular.units", of="tabular.heads")
