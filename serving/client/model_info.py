"""A version of a model as its own signature describes it, and answers in its words."""

from collections.abc import Iterable
from dataclasses import dataclass

from mmkeras.errors import UserError
from mmkeras.schema import (
    LABEL,
    LABEL_SEPARATOR,
    MODALITIES,
    PROBABILITIES,
    SCORE,
    SERVING_DEFAULT,
    STATUS,
)
from serving.client.inputs import PreparedRow, not_taken
from serving.client.prediction import Prediction, with_unreadable
from serving.client.requests import ModelMetadata, Outputs

_OUTPUTS = {PROBABILITIES, LABEL, SCORE, STATUS}


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a version takes and answers.

    Attributes:
        version: Its number; None where the server does not say it.
        modalities: What it takes, in schema order.
        classes: Their names in the order of the probabilities; () where the model
            has no signature that tells them.
    """

    version: int | None
    modalities: tuple[str, ...]
    classes: tuple[str, ...]


def modalities_of(described: ModelMetadata, name: str) -> tuple[str, ...]:
    """Returns what a model takes, in schema order.

    Raises:
        UserError: Its signature is none that mmkeras exports.
    """
    takes = described.inputs.get(SERVING_DEFAULT, ())
    gives = described.outputs.get(SERVING_DEFAULT, ())
    if not takes or not set(takes) <= set(MODALITIES) or not _OUTPUTS <= set(gives):
        raise UserError(
            f"The model '{name}' is none of mmkeras: its signature {SERVING_DEFAULT} "
            f"takes {', '.join(takes) or 'nothing'} and gives "
            f"{', '.join(gives) or 'nothing'}."
        )
    return tuple(m for m in MODALITIES if m in takes)


def check_taken(rows: Iterable[PreparedRow], model: ModelInfo, name: str) -> None:
    """Refuses rows with a modality that the model has not, or has no longer.

    Raises:
        UserError: There is one.
    """
    for row in rows:
        for modality in row.data:
            if modality not in model.modalities:
                raise not_taken(modality, model.modalities, name)


def fits(outputs: Outputs, model: ModelInfo) -> bool:
    """Whether the labels are what the probabilities say by these class names.

    Where they are not, the classes have changed.
    """
    if not model.classes:
        return True
    pairs = zip(outputs.probabilities, outputs.labels, strict=True)
    return all(_row_fits(row, label, model.classes) for row, label in pairs)


def _row_fits(probabilities, label, classes):
    if len(probabilities) != len(classes):
        return False
    highest = classes[probabilities.index(max(probabilities))]
    pairs = zip(classes, probabilities, strict=True)
    several = LABEL_SEPARATOR.join(name for name, p in pairs if p >= 0.5)
    return label in (highest, several)


def answers(
    outputs: Outputs, rows: list[PreparedRow], model: ModelInfo
) -> list[Prediction]:
    """Returns the answer to each row."""
    return [_answer(outputs, i, row, model) for i, row in enumerate(rows)]


def _answer(outputs, i, row, model):
    probabilities = outputs.probabilities[i]
    names = model.classes or tuple(map(str, range(len(probabilities))))
    return Prediction(
        label=outputs.labels[i],
        score=outputs.scores[i],
        probabilities=dict(zip(names, probabilities, strict=True)),
        status=with_unreadable(outputs.statuses[i], list(row.broken)),
        version=outputs.version,
        problems=tuple(row.broken.values()),
    )
