"""Rows, calls to a server, and their replies, the same for gRPC and REST."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from mmkeras.schema import (
    GENERATED,
    LABEL,
    N_BEST,
    N_BEST_SCORE,
    PROBABILITIES,
    SCORE,
    STATUS,
    VALUE,
)

if TYPE_CHECKING:
    import os

    import numpy as np
    from PIL import Image

    from mmkeras.modalities.file import Unreadable

Cell = bytes | float  # value of a column in a row, as it is sent
# A str is a path or a URI for columns of files, else the value itself. An error is a
# value that could not be read.
_Item: TypeAlias = "str | bytes | os.PathLike | float | np.ndarray | Image.Image | None"
Value: TypeAlias = "_Item | Sequence[_Item] | Unreadable"
# Outputs of the serving signature that `PredictCall` requests: classes, or regression,
# or generated texts, of which some models give the n best ones too.
OUTPUTS, VALUE_OUTPUTS = (PROBABILITIES, LABEL, SCORE, STATUS), (VALUE, STATUS)
TEXT_OUTPUTS, N_BEST_OUTPUTS = (GENERATED, SCORE, STATUS), (N_BEST, N_BEST_SCORE)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Name of a model, with the number or the label of a version."""

    model: str
    version: int | None = None
    label: str | None = None

    def at(self, version: int | None) -> "ModelSpec":
        """Returns the model at a version, or this spec for None."""
        if version is None:
            return self
        return replace(self, version=version, label=None)


@dataclass(frozen=True, kw_only=True)
class MetadataCall:
    """Requests the signatures; the reply is a `ModelMetadata`."""

    spec: ModelSpec


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """Signatures of a model version: signature -> its inputs and outputs.

    `inputs` has the type of each input, such as "DT_FLOAT". `version` is None for a
    server that does not report it.
    """

    version: int | None
    inputs: dict[str, dict[str, str]]
    outputs: dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class ColumnsCall:
    """Requests the columns of the model; the reply is column -> its type."""

    spec: ModelSpec


@dataclass(frozen=True, kw_only=True)
class ClassNamesCall:
    """Requests the class names by classifying one empty row; the reply is a tuple.

    `row` has the value of any absent column of the model.
    """

    spec: ModelSpec
    row: dict[str, Cell]


@dataclass(frozen=True, kw_only=True)
class PreparedRow:
    """A row that can be sent.

    Attributes:
        data: Column -> value, without absent and unreadable ones.
        problems: Column -> reason why it is unreadable.
        notes: Faults of files that are read whole nevertheless.
    """

    data: dict[str, Cell]
    problems: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PredictCall:
    """Requests the `Outputs` of a batch; `columns` is column -> (B,) values."""

    spec: ModelSpec
    columns: dict[str, list[Cell]]
    outputs: tuple[str, ...] = OUTPUTS


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Model outputs for B rows and C classes; `version` as in `ModelMetadata`.

    Those of other tasks are []: `values` is of regression; `texts`, `n_best` and
    `n_best_scores` are of a generator, which has `scores` too.
    """

    version: int | None
    probabilities: list[list[float]]  # (B, C)
    labels: list[str]  # (B,), as below
    scores: list[float]
    statuses: list[str]
    values: list[float] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    n_best: list[list[str]] = field(default_factory=list)  # (B, N), as below
    n_best_scores: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class VersionsCall:
    """Requests the versions of a model; the reply is {version: state}, newest first."""

    model: str


Call = MetadataCall | ColumnsCall | ClassNamesCall | PredictCall | VersionsCall
Reply = ModelMetadata | dict[str, str] | tuple[str, ...] | Outputs | dict[int, str]


@dataclass(frozen=True, kw_only=True)
class EncodedCall:
    """A call as bytes; `path` is a gRPC method, or the path of a URL.

    `decode` converts the response of the transport to a reply, or raises a
    PredictError. gRPC uses no HTTP `method`.
    """

    path: str
    content: bytes
    decode: Callable[..., Reply]
    method: str = "POST"
