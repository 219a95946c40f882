"""The answer to a row."""

from dataclasses import dataclass

from mmkeras.schema import ABSENT, UNREADABLE


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What the model says of one row.

    Attributes:
        label: The class; in multi-label tasks those at 0.5 and above, joined by "|".
        score: The highest probability.
        probabilities: Class -> probability, in the model's order.
        status: "ok", or what was absent or unreadable: "image absent; audio absent".
        version: The model's version; None where the server did not say it (REST).
        problems: Why something could not be read, as far as it was seen here.
    """

    label: str
    score: float
    probabilities: dict[str, float]
    status: str
    version: int | None = None
    problems: tuple[str, ...] = ()


def with_unreadable(status: str, modalities: list[str]) -> str:
    """Says "unreadable" of what was sent as absent since it could not be read."""
    for modality in modalities:
        status = status.replace(f"{modality} {ABSENT}", f"{modality} {UNREADABLE}")
    return status


def not_sent(why: str) -> Prediction:
    """Returns the answer to a row that cannot be sent: no label, and why."""
    return Prediction(
        label="",
        score=float("nan"),
        probabilities={},
        status=f"row {UNREADABLE}: {why}",
        problems=(why,),
    )
