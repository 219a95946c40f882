"""Prediction for one row."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from mmkeras.errors import Examples, warn_of_faults
from mmkeras.schema import UNREADABLE


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Prediction for one row.

    Attributes:
        label: Class; for multi-label tasks the classes of at least 0.5, joined by "|".
            In regression the text of the value, and of a generator its text.
        score: Highest probability; NaN in regression. Of a generator the mean log
            probability of the text's tokens.
        probabilities: Class -> probability, in the order of the model; {} in
            regression and of a generator.
        value: Number that a regression predicts; None for other tasks.
        text: Text that a generator writes; None for other tasks.
        n_best: The best texts of a generator, the best first; () if it gives one only.
        n_best_score: Their scores.
        status: "ok", or absent and unreadable inputs: "image absent; audio absent".
        version: Version of the model; None by REST, which does not report it.
        problems: Reasons of unreadable inputs.
        notes: Faults of files that are read whole nevertheless.
    """

    label: str
    score: float
    probabilities: dict[str, float]
    status: str
    value: float | None = None
    text: str | None = None
    n_best: tuple[str, ...] = ()
    n_best_score: tuple[float, ...] = ()
    version: int | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def rejected_prediction(reason: str) -> Prediction:
    """Returns the prediction, without a label, for a row that cannot be sent."""
    fields = {"label": "", "score": float("nan"), "probabilities": {}}
    status = f"row {UNREADABLE}: {reason}"
    return Prediction(**fields, status=status, problems=(reason,))


def warn_caller(predictions: Sequence[Prediction]) -> None:
    """Warns the caller of the calling function of the notes, once for all rows."""
    faults = Examples(note for row in predictions for note in row.notes)
    for text in warn_of_faults(faults):
        warnings.warn(text, stacklevel=3)
