"""Description of a model version, and predictions from its outputs."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from mmkeras.data.predictions_csv import merge_status, unreadable_status
from mmkeras.errors import UserError
from mmkeras.schema import LABEL_SEPARATOR, MODALITIES, SERVING_DEFAULT
from serving.client.prediction import Prediction
from serving.client.requests import OUTPUTS, Cell, ModelMetadata, Outputs, PreparedRow

_ABSENT: dict[str, Cell] = {"DT_STRING": b"", "DT_FLOAT": math.nan}


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Columns of a model version, and its classes.

    Attributes:
        version: None for a server that does not report it.
        columns: Column -> its type, such as "image", in the order of the model.
        absent: Column -> its value if a row lacks it: NaN for numbers, else b"".
        classes: In the order of the probabilities; () for a model without the signature
            `classify`.
    """

    version: int | None
    columns: dict[str, str]
    absent: dict[str, Cell]
    classes: tuple[str, ...] = ()


def read_columns(
    metadata: ModelMetadata, types: Mapping[str, str] | None, name: str
) -> ModelInfo:
    """Returns the description of a model, without its classes.

    `types` is the reply to a `ColumnsCall`, or None for an earlier export, whose inputs
    have their types as names.

    Raises:
        UserError: mmkeras does not export such a signature.
    """
    inputs = metadata.inputs.get(SERVING_DEFAULT, {})
    outputs = metadata.outputs.get(SERVING_DEFAULT, ())
    if types is None:
        types = {m: m for m in MODALITIES if m in inputs}
    is_export = bool(inputs) and inputs.keys() == types.keys()
    is_export &= set(inputs.values()) <= _ABSENT.keys()
    if not is_export or set(OUTPUTS) - set(outputs):
        raise UserError(
            f"The model '{name}' is not an export of mmkeras: its signature "
            f"{SERVING_DEFAULT} has the inputs {', '.join(inputs) or '(none)'} and the "
            f"outputs {', '.join(outputs) or '(none)'}."
        )
    absent = {column: _ABSENT[inputs[column]] for column in types}
    return ModelInfo(version=metadata.version, columns={**types}, absent=absent)


def column_error(column: str, columns: Mapping[str, str], model: str) -> UserError:
    """Returns the error of a column that the model lacks."""
    close = get_close_matches(column, columns, n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    known = ", ".join(f"{name} ({kind})" for name, kind in columns.items())
    return UserError(
        f"The model '{model}' has no column '{column}'; it has {known}. {hint}Leave "
        f"'{column}' out, or correct its name."
    )


def check_columns(rows: Iterable[PreparedRow], model: ModelInfo, name: str) -> None:
    """Raises a UserError if the model, or a newer version, lacks a column of a row."""
    for row in rows:
        for column, cell in row.data.items():
            if type(model.absent.get(column)) is not type(cell):
                raise column_error(column, model.columns, name)


def labels_match(outputs: Outputs, model: ModelInfo) -> bool:
    """Returns whether the labels follow from the probabilities and the class names.

    If not, the model on the server has other classes now.
    """
    if not model.classes:
        return True
    pairs = zip(outputs.probabilities, outputs.labels, strict=True)
    return all(_label_matches(row, label, model.classes) for row, label in pairs)


def _label_matches(probabilities, label, classes):
    if len(probabilities) != len(classes):
        return False
    highest = classes[probabilities.index(max(probabilities))]
    pairs = zip(classes, probabilities, strict=True)
    multilabel = LABEL_SEPARATOR.join(name for name, p in pairs if p >= 0.5)
    return label in (highest, multilabel)


def make_predictions(
    outputs: Outputs, rows: list[PreparedRow], model: ModelInfo
) -> list[Prediction]:
    """Returns one prediction per row."""
    width = max(map(len, outputs.probabilities), default=0)
    names = model.classes or tuple(map(str, range(width)))
    return [
        Prediction(
            label=outputs.labels[i],
            score=outputs.scores[i],
            probabilities=dict(zip(names, outputs.probabilities[i], strict=True)),
            status=merge_status(outputs.statuses[i], unreadable_status(row.problems)),
            version=outputs.version,
            problems=tuple(row.problems.values()),
            notes=row.notes,
        )
        for i, row in enumerate(rows)
    ]
