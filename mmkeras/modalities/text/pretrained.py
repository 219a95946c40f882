"""Pretrained BERTs, which folders of several formats hold."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mmkeras.errors import UserError, one_line
from mmkeras.modalities.preprocessing_state import RESERVED

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, kw_only=True)
class BertSizes:
    """Sizes of a BERT, DistilBERT or ELECTRA, as in its config.json.

    Attributes:
        pieces: Number of word pieces, as rows of the embedding.
        positions: Longest sequence.
        width: Width of the tokens, a multiple of `heads`.
        hidden: Width inside the dense part of a block.
        activation: gelu (exact), gelu_tanh or relu.
        embedding_width: Width of the embeddings; another than `width` is projected.
        has_segments: Whether an embedding of the first segment is added.
    """

    pieces: int
    positions: int
    width: int
    layers: int
    heads: int
    hidden: int
    activation: str
    epsilon: float
    embedding_width: int
    has_segments: bool


class PretrainedBert(ABC):
    """A BERT with weights, vocabulary, and how texts are read and tokens pooled.

    The constructor checks all but the values of the weights, in milliseconds.

    Attributes:
        sizes: Sizes of the model.
        pieces: Pieces of the vocabulary, those with the ids from `RESERVED` on.
        keeps_case: Whether letters are not lower-cased.
        keeps_accents: Whether accents are not dropped.
        pooling: Pooling of tokens that it was trained with: mean, cls or max; "" if
            its files do not say it.
        normalize: Whether its vectors get length 1.
    """

    sizes: BertSizes
    pieces: tuple[str, ...]
    keeps_case: bool
    keeps_accents: bool
    pooling: str = ""
    normalize: bool = False
    expected: ClassVar[str]  # what to give instead of files that cannot be used

    def __init__(self, path: Path):
        self.path = path

    def error(self, problem: str) -> UserError:
        return UserError(f"text.weights='{self.path}' {problem}. {self.expected}")

    def check_sizes(self) -> None:
        """Checks that the sizes fit each other and the vocabulary.

        Raises:
            UserError: They do not.
        """
        sizes, pieces = self.sizes, len(self.pieces) + RESERVED
        if sizes.width % sizes.heads:
            raise self.error(f"has a width of {sizes.width} for {sizes.heads} heads")
        if pieces > sizes.pieces:
            raise self.error(f"has {pieces} pieces and weights of {sizes.pieces}")

    @abstractmethod
    def layer_weights(self) -> Iterator[tuple[str, list[np.ndarray]]]:
        """Yields layer of `bert` -> its weights.

        Raises:
            UserError: They are missing or damaged.
        """

    def load(self, model: "keras.Model") -> None:
        """Loads the weights into a model of `bert`; longer tables of positions are cut.

        Raises:
            UserError: A weight is missing, or has another shape.
        """
        for name, values in self.layer_weights():
            layer = model.get_layer(name)
            if name == "embedding":
                rows = [weight.shape[0] for weight in layer.weights]
                values = [x[:n] for x, n in zip(values, rows, strict=True)]
            try:
                layer.set_weights(values)
            except ValueError as error:
                reason = one_line(error, 200)
                text = f"has weights that do not fit its sizes ({reason})"
                raise self.error(text) from None
