"""What one encoder of the model reads: the interface between branches and all steps.

A branch is one column, or all columns of numbers and categories together.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from mmkeras.modalities.column import Column, State

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from mmkeras.config import AugmentConfig


class Branch(ABC):
    """Columns that one encoder of the model reads, under one presence.

    Attributes:
        name: Name in reports and under "present".
        type: Name of its settings in `loss`, such as "text".
        key: Name in Keras and TensorFlow, which allow letters, digits and "_" only.
        columns: Its columns, in order.
    """

    name: str
    key: str
    type: str
    columns: tuple[Column, ...]
    is_frozen = False
    shares_backbone = False  # with the other branches of its type that do
    encoder: ClassVar[str]  # module that builds it

    def import_encoder(self) -> ModuleType:
        """Imports the module of the encoder, whose layers a saved model needs."""
        return import_module(self.encoder)

    @property
    def is_pretrained(self) -> bool:
        """Whether the encoder starts from pretrained weights."""
        return bool(getattr(self.settings, "is_pretrained", False))

    @property
    def is_sequence(self) -> bool:
        """Whether the encoder reads a sequence of tokens or frames."""
        return bool(getattr(self.settings, "is_sequence", False))

    @abstractmethod
    def graph(self, state: Mapping[str, State]) -> "BranchGraph":
        """Builds the preprocessing in the graph; `state` is by column."""

    @abstractmethod
    def input(self, state: Mapping[str, State]) -> tuple[tuple[int, ...], str]:
        """Returns shape and dtype of a row of the Keras input."""

    def build_backbone(self, tokens: bool) -> "keras.Model | None":
        """Builds the encoder whose output can be computed once and cached, if any."""
        return None

    def build_encoder(
        self, x: "keras.KerasTensor", state: Mapping[str, State], tokens: bool
    ) -> "keras.KerasTensor | tuple | list":
        """Applies the encoder inside the head: `x` is the input, or the backbone's.

        Returns (B, D), or with `tokens` also (B, L, D) and (B, L) bool.
        """
        return x

    def split_tokens(self, x: "keras.KerasTensor") -> tuple:
        """Returns tokens of a backbone and their mask: they are zeros in padding."""
        from mmkeras.layers.sequence import find_padding

        return x, find_padding(x)

    def apply_encoder(self, encode: Callable, x: "keras.KerasTensor", state) -> Any:
        """Applies the encoder of a user, as `build_encoder` does that of the settings.

        `encode` is a function from the input of one file, if the column has files.
        """
        return encode(x)

    def describe(self) -> str:
        """Returns the main settings for reports."""
        return getattr(self.settings, "encoder", self.type)

    def linear_features(
        self, x: "np.ndarray", state: Mapping[str, State]
    ) -> "np.ndarray":
        """Returns (B, D) features for the linear baseline of the model's input."""
        return x


class BranchColumn(Column, Branch):
    """Column that is a branch of its own."""

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self,)


class BranchGraph(ABC):
    """Preprocessing of one branch in the graph, from raw values to the model's input.

    A row is decoded, finished, and then finished as part of a batch; only the first
    can fail. Training augments in the later two. Serving calls the same functions.

    Attributes:
        branch: Its branch.
        resources: Objects that an export must track, such as tables.
        input_spec: tf.TensorSpec of a row of the model's input.
    """

    branch: Branch
    resources: Sequence[Any] = ()
    input_spec: "tf.TensorSpec"

    @abstractmethod
    def decode(self, values: "Mapping[str, tf.Tensor]", formats: Any) -> Any:
        """Decodes a row, () values by column; zeros if all are absent.

        `formats` is column -> formats that occur, or {} for all.

        Raises:
            tf.errors.InvalidArgumentError: The row is broken.
        """

    def finish_row(self, decoded, seed=None, augment: "AugmentConfig | None" = None):
        """Finishes a decoded row; with a seed (2,) it is augmented."""
        return decoded

    def augments_rows(self, augment: "AugmentConfig") -> bool:
        """Whether `finish_row` gives other values with another seed."""
        return False

    def finish_batch(self, batch, seed=None, augment: "AugmentConfig | None" = None):
        """Turns finished rows of a batch into the input of the model."""
        return batch

    @abstractmethod
    def __call__(
        self, data: "Mapping[str, tf.Tensor]"
    ) -> "tuple[tf.Tensor, dict[str, tuple[tf.Tensor, tf.Tensor]]]":
        """Preprocesses (B,) values by column, row-safe.

        Returns:
            The model's input; and column -> ((B,) bool whether it is usable, (B,) bool
            whether the row has it).
        """

    def decoded_bytes(self, encoded_bytes: int) -> int:
        """Estimates the size of a decoded row beside its encoded one."""
        return 0
