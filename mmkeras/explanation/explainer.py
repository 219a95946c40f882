"""Explanations of predictions by Shapley values of modalities and by occlusion."""

from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from mmkeras.data.example_reader import RowContent
from mmkeras.data.predictions_csv import format_value, merge_status
from mmkeras.evaluation.shapley import sampled_orders, shapley_values, subsets
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import TwoStagePredictor
from mmkeras.modalities.preprocessing_state import MULTILABEL, REGRESSION
from mmkeras.schema import LABEL_SEPARATOR, PRESENT, VALUE

_BATCH_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Explanation of one row's prediction.

    An effect is by how much the probability falls when a part is hidden. In regression
    all probabilities are values in the unit of the labels.

    Attributes:
        predicted: Label as from `mmkeras.predict`.
        explained: Likeliest class, whose probability is explained; "value" in
            regression, where `is_number` is true.
        empty_probability: Probability of that class for a row without any column.
        shares: Branch -> Shapley value, 0 if it is absent; they add up to
            `probability` minus `empty_probability`.
        sampled_orders: Orders of the branches from which `shares` are estimated, if the
            row has more than 8 branches; 0 if they are exact.
        status: "ok", or what is absent or unreadable; `problems` has the reasons.
        parts: Column -> effects of its parts, as `Column.explain` returns them.
    """

    predicted: str
    explained: str
    probability: float
    empty_probability: float
    shares: dict[str, float]
    status: str
    is_number: bool = False
    sampled_orders: int = 0
    problems: tuple[str, ...] = ()
    parts: dict[str, Any] = field(default_factory=dict)


class Explainer:
    """Explainer of a trained model's predictions.

    Example:
        explainer = Explainer(load_trained(Path("runs/demo")))
        explanation = explainer.explain(reader.read(row))
        print(explanation.predicted, explanation.shares)
    """

    def __init__(self, trained_model: TrainedModel):
        self.trained_model = trained_model
        self.predictor = TwoStagePredictor(trained_model)

    def explain(self, read: RowContent) -> Explanation:
        """Explains one row by hiding its branches and the parts of its columns."""
        columns, state = self.predictor.columns, self.trained_model.state
        names = tuple(self.predictor.branches)
        data = {n: read.data.get(n, c.absent) for n, c in columns.items()}
        inputs = self.predictor.encode({n: [value] for n, value in data.items()})
        is_present = dict(zip(names, inputs[PRESENT][0], strict=True))
        present = tuple(b for b in names if is_present[b])
        values = {}
        for subset in subsets(present):
            hidden = [m for m in names if m not in subset]
            (probabilities,) = self.predictor.classify(inputs, hidden)
            values[subset] = probabilities.astype("float64")
        probabilities = values[present]
        # The only column of a regression is the value.
        column, is_number = int(probabilities.argmax()), state.task == REGRESSION
        values = {subset: float(p[column]) for subset, p in values.items()}
        shares = shapley_values(values, present)
        status = self._status(data, read)
        problems = [*read.broken.values(), read.row.problem]
        return Explanation(
            predicted=_label(probabilities, state),
            explained=VALUE if is_number else state.classes[column],
            is_number=is_number,
            sampled_orders=len(sampled_orders(present)),
            probability=values[present],
            empty_probability=values[()],
            shares={m: shares.get(m, 0.0) for m in names},
            status=status,
            problems=tuple(filter(None, problems)),
            parts=self._parts(data, present, inputs, column, values[present]),
        )

    def _status(self, data, read) -> str:
        """Returns the status of the served graph, with what could not be read."""
        (status,) = self.predictor.status({n: [x] for n, x in data.items()})
        return merge_status(status, read.status)

    def _parts(self, data, present, inputs, column, probability) -> dict[str, Any]:
        """Returns the effects of the parts of all columns that have parts."""
        result = {}
        for branch in present:
            columns = self.predictor.branches[branch].columns
            values = {c.name: data[c.name] for c in columns}
            for c in columns:
                if c.is_absent(data[c.name]):
                    continue

                def effects(contents, branch=branch, name=c.name, values=values):
                    changed = self._probabilities(
                        inputs, branch, values, name, contents
                    )
                    return probability - changed[:, column]

                if (part := c.explain(data[c.name], effects)) is not None:
                    result[c.name] = part
        return result

    def _probabilities(self, inputs, branch, values, name, contents) -> np.ndarray:
        """Returns (V, C) for a row with V other contents of one column."""
        contents, parts = iter(contents), []
        while batch := list(islice(contents, _BATCH_ROWS)):
            rows = {k: np.repeat(x, len(batch), axis=0) for k, x in inputs.items()}
            data = {n: [value] * len(batch) for n, value in values.items()}
            changed = self.predictor.replace_branch(rows, branch, data | {name: batch})
            parts.append(self.predictor.classify(changed))
        return np.concatenate(parts).astype("float64")


def _label(probabilities, state) -> str:
    if state.task == REGRESSION:
        return format_value(probabilities[0])
    if state.task != MULTILABEL:
        return state.classes[int(probabilities.argmax())]
    pairs = zip(state.classes, probabilities, strict=True)
    return LABEL_SEPARATOR.join(name for name, p in pairs if p >= 0.5)
