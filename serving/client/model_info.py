"""Description of a model version, and predictions from its outputs."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from mmkeras.data.predictions_csv import (
    format_value,
    merge_status,
    unreadable_status,
)
from mmkeras.errors import UserError
from mmkeras.schema import (
    GENERATED,
    LABEL_SEPARATOR,
    MODALITIES,
    N_BEST,
    SERVING_DEFAULT,
    VALUE,
)
from serving.client.prediction import Prediction
from serving.client.requests import (
    N_BEST_OUTPUTS,
    OUTPUTS,
    TEXT_OUTPUTS,
    VALUE_OUTPUTS,
    Cell,
    ModelMetadata,
    Outputs,
    PreparedRow,
)

_ABSENT: dict[str, Cell] = {"DT_STRING": b"", "DT_FLOAT": math.nan}


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Columns of a model version, and its classes.

    Attributes:
        version: None for a server that does not report it.
        columns: Column -> its type, such as "image", in the order of the model.
        absent: Column -> its value if a row lacks it: NaN for numbers, else b"".
        classes: In the order of the probabilities; () for a model without the signature
            `classify`, and for a generator.
        outputs: Outputs that predictions need.
    """

    version: int | None
    columns: dict[str, str]
    absent: dict[str, Cell]
    classes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = OUTPUTS

    @property
    def is_regression(self) -> bool:
        return VALUE in self.outputs

    @property
    def is_generator(self) -> bool:
        return GENERATED in self.outputs

    @property
    def has_n_best(self) -> bool:
        """Whether it is a generator that gives its n best texts."""
        return N_BEST in self.outputs


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
    needed = _needed_outputs(outputs)
    if types is None:
        types = {m: m for m in MODALITIES if m in inputs}
    is_export = bool(inputs) and inputs.keys() == types.keys()
    is_export &= set(inputs.values()) <= _ABSENT.keys()
    if not is_export or set(needed) - set(outputs):
        raise UserError(
            f"The model '{name}' is not an export of mmkeras: its signature "
            f"{SERVING_DEFAULT} has the inputs {', '.join(inputs) or '(none)'} and the "
            f"outputs {', '.join(outputs) or '(none)'}."
        )
    absent = {column: _ABSENT[inputs[column]] for column in types}
    return ModelInfo(
        version=metadata.version, columns={**types}, absent=absent, outputs=needed
    )


def _needed_outputs(outputs) -> tuple[str, ...]:
    if GENERATED in outputs:
        return TEXT_OUTPUTS + (N_BEST_OUTPUTS if N_BEST in outputs else ())
    return VALUE_OUTPUTS if VALUE in outputs else OUTPUTS


def check_n_best(model: ModelInfo, name: str) -> None:
    """Checks that a model gives its n best texts.

    Raises:
        UserError: It does not.
    """
    if not model.is_generator:
        raise UserError(
            f"The model '{name}' has no n best texts, as it is no generator of texts."
        )
    if not model.has_n_best:
        raise UserError(
            f"The model '{name}' gives one text per row. Train it with --export.n_best "
            "and --generate.beams to have more."
        )


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
    if not kinds_match(outputs, model):
        return False
    if not model.classes:
        return True
    pairs = zip(outputs.probabilities, outputs.labels, strict=True)
    return all(_label_matches(row, label, model.classes) for row, label in pairs)


def kinds_match(outputs: Outputs, model: ModelInfo) -> bool:
    """Returns whether the outputs are of the task of the model, as far as they show.

    They are of classes, values, or texts with or without the n best.
    """
    kinds = bool(outputs.values), bool(outputs.texts), bool(outputs.n_best)
    expected = model.is_regression, model.is_generator, model.has_n_best
    return kinds == expected or not outputs.statuses


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
            **_fields(outputs, i, names),
            status=merge_status(outputs.statuses[i], unreadable_status(row.problems)),
            version=outputs.version,
            problems=tuple(row.problems.values()),
            notes=row.notes,
        )
        for i, row in enumerate(rows)
    ]


def _fields(outputs: Outputs, i: int, names: tuple[str, ...]) -> dict:
    """Returns the fields of a prediction that depend on the task."""
    if outputs.values:
        value = outputs.values[i]
        fields = {"label": format_value(value), "score": math.nan}
        return {**fields, "probabilities": {}, "value": value}
    if outputs.texts:
        text = outputs.texts[i]
        fields = {"label": text, "score": outputs.scores[i], "probabilities": {}}
        if outputs.n_best:
            fields["n_best"] = tuple(outputs.n_best[i])
            fields["n_best_score"] = tuple(outputs.n_best_scores[i])
        return {**fields, "text": text}
    probabilities = dict(zip(names, outputs.probabilities[i], strict=True))
    fields = {"label": outputs.labels[i], "score": outputs.scores[i]}
    return {**fields, "probabilities": probabilities}
