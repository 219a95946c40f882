"""Description of a model version, and predictions from its outputs."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import nan

from mmkeras.data.predictions_csv import (
    format_value,
    merge_status,
    unreadable_status,
)
from mmkeras.errors import UserError
from mmkeras.schema import LABEL_SEPARATOR, MODALITIES, SERVING_DEFAULT, VALUE
from serving.client.inputs import PreparedRow, modality_error
from serving.client.prediction import Prediction
from serving.client.requests import (
    OUTPUTS,
    VALUE_OUTPUTS,
    ModelMetadata,
    Outputs,
)


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Inputs of a model version, in schema order, and its classes.

    `version` is None for a server that does not report it. `classes` are in the order
    of the probabilities, or () for a model without the signature `classify`.
    `outputs` are those that predictions need.
    """

    version: int | None
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    outputs: tuple[str, ...] = OUTPUTS

    @property
    def is_regression(self) -> bool:
        return VALUE in self.outputs


def read_outputs(metadata: ModelMetadata) -> tuple[str, ...]:
    """Returns the outputs that predictions need: of classes, or of regression."""
    outputs = metadata.outputs.get(SERVING_DEFAULT, ())
    return VALUE_OUTPUTS if VALUE in outputs else OUTPUTS


def read_modalities(metadata: ModelMetadata, name: str) -> tuple[str, ...]:
    """Returns the inputs of a model, in schema order.

    Raises:
        UserError: mmkeras does not export such a signature.
    """
    inputs = metadata.inputs.get(SERVING_DEFAULT, ())
    outputs = metadata.outputs.get(SERVING_DEFAULT, ())
    needed = set(read_outputs(metadata))
    if not inputs or set(inputs) - set(MODALITIES) or needed - set(outputs):
        raise UserError(
            f"The model '{name}' is not an export of mmkeras: its signature "
            f"{SERVING_DEFAULT} has the inputs {', '.join(inputs) or '(none)'} and the "
            f"outputs {', '.join(outputs) or '(none)'}."
        )
    return tuple(m for m in MODALITIES if m in inputs)


def check_modalities(rows: Iterable[PreparedRow], model: ModelInfo, name: str) -> None:
    """Raises a UserError if the model, or a newer version, lacks an input."""
    for row in rows:
        for modality in row.data:
            if modality not in model.modalities:
                raise modality_error(modality, model.modalities, name)


def labels_match(outputs: Outputs, model: ModelInfo) -> bool:
    """Returns whether the labels follow from the probabilities and the class names.

    If not, the model on the server has other classes now.
    """
    if bool(outputs.values) != model.is_regression and outputs.statuses:
        return False
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

    def of_task(i: int) -> dict:
        if outputs.values:
            value = outputs.values[i]
            fields = {"label": format_value(value), "score": nan, "probabilities": {}}
            return {**fields, "value": value}
        probabilities = dict(zip(names, outputs.probabilities[i], strict=True))
        fields = {"label": outputs.labels[i], "score": outputs.scores[i]}
        return {**fields, "probabilities": probabilities}

    return [
        Prediction(
            **of_task(i),
            status=merge_status(outputs.statuses[i], unreadable_status(row.problems)),
            version=outputs.version,
            problems=tuple(row.problems.values()),
            notes=row.notes,
        )
        for i, row in enumerate(rows)
    ]
