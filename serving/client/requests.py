"""What a client asks of a server and gets back, whichever door it goes through."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Which model: by its name, and a version or a label."""

    model: str
    version: int | None = None
    label: str | None = None

    def at(self, version: int | None) -> "ModelSpec":
        """The same model at a version; where that is unknown, as it was."""
        if version is None:
            return self
        return replace(self, version=version, label=None)


@dataclass(frozen=True, kw_only=True)
class MetadataCall:
    """Asks for the signatures; the reply is a `Description`."""

    spec: ModelSpec


@dataclass(frozen=True, kw_only=True)
class ModelMetadata:
    """What a version takes and gives.

    Attributes:
        version: Its number; None where the server did not say it.
        inputs: Signature -> the names of its inputs.
        outputs: Signature -> the names of its outputs.
    """

    version: int | None
    inputs: dict[str, tuple[str, ...]]
    outputs: dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class ClassNamesCall:
    """Asks for the class names in order, by classifying a row of nothing.

    `modality` is any input of the model.
    """

    spec: ModelSpec
    modality: str


@dataclass(frozen=True, kw_only=True)
class PredictCall:
    """Asks for the outputs of a batch; `columns` is modality -> (B,) bytes."""

    spec: ModelSpec
    columns: dict[str, list[bytes]]


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What the model says of a batch of B rows.

    Attributes:
        version: As in `Description`.
        probabilities: (B, C).
        labels: (B,).
        scores: (B,).
        statuses: (B,).
    """

    version: int | None
    probabilities: list[list[float]]
    labels: list[str]
    scores: list[float]
    statuses: list[str]


@dataclass(frozen=True, kw_only=True)
class VersionsCall:
    """Asks which versions there are; the reply is {version: state, "AVAILABLE"}."""

    model: str


Call = MetadataCall | ClassNamesCall | PredictCall | VersionsCall
Reply = ModelMetadata | tuple[str, ...] | Outputs | dict[int, str]
