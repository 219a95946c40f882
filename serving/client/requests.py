"""Calls to a server and their replies, the same for gRPC and REST."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from mmkeras.schema import LABEL, PROBABILITIES, SCORE, STATUS, VALUE

# Outputs of the serving signature that `PredictCall` requests: classes, or regression.
OUTPUTS, VALUE_OUTPUTS = (PROBABILITIES, LABEL, SCORE, STATUS), (VALUE, STATUS)


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
    """Signatures of a model version: signature -> names of its inputs and outputs.

    `version` is None for a server that does not report it.
    """

    version: int | None
    inputs: dict[str, tuple[str, ...]]
    outputs: dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class ClassNamesCall:
    """Requests the class names by classifying one empty row; the reply is a tuple.

    `modality` is any input of the model.
    """

    spec: ModelSpec
    modality: str


@dataclass(frozen=True, kw_only=True)
class PredictCall:
    """Requests the `Outputs` of a batch; `columns` is modality -> (B,) bytes."""

    spec: ModelSpec
    columns: dict[str, list[bytes]]
    outputs: tuple[str, ...] = OUTPUTS


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Model outputs for B rows and C classes; `version` as in `ModelMetadata`.

    Those of classes are [] in regression, and `values` is [] for classes.
    """

    version: int | None
    probabilities: list[list[float]]  # (B, C)
    labels: list[str]  # (B,), as below
    scores: list[float]
    statuses: list[str]
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class VersionsCall:
    """Requests the versions of a model; the reply is {version: state}, newest first."""

    model: str


Call = MetadataCall | ClassNamesCall | PredictCall | VersionsCall
Reply = ModelMetadata | tuple[str, ...] | Outputs | dict[int, str]


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
