"""Explanations of predictions by Shapley values of modalities and by occlusion."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from mmkeras.data.example_reader import RowContent
from mmkeras.data.predictions_csv import merge_status
from mmkeras.evaluation.shapley import sampled_orders, shapley_values, subsets
from mmkeras.explanation.explained_value import find_explained_value
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import Arrays, TwoStagePredictor
from mmkeras.modalities.preprocessing_state import GENERATE, REGRESSION
from mmkeras.schema import PRESENT

_BATCH_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class WordExplanation:
    """Explanation of one word of a generated text.

    Effects are those of `Explanation` on the log probability of the word, after the
    words before it.

    Attributes:
        log_probability: Sum over the word's tokens.
        shares: Branch -> Shapley value; they add up to `log_probability` minus
            `empty_log_probability`, that of a row without any column.
        parts: Column -> effects of its parts, as `Column.explain` returns them.
    """

    word: str
    log_probability: float
    empty_log_probability: float
    shares: dict[str, float]
    parts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Explanation of one row's prediction.

    An effect is by how much the probability falls when a part is hidden. In regression
    all probabilities are values in the unit of the labels. Of a generator they are the
    probability per token of the text that it generated: the geometric mean over the
    text's tokens and the end token, the exponential of its mean log probability.

    Attributes:
        predicted: Label, value or text as from `mmkeras.predict`.
        explained: Likeliest class, whose probability is explained; the text of a
            generator, where `is_text` is true; "value" in regression, where
            `is_number` is.
        empty_probability: Probability of the same for a row without any column.
        shares: Branch -> Shapley value, 0 if it is absent; they add up to
            `probability` minus `empty_probability`.
        sampled_orders: Orders of the branches from which `shares` are estimated, if the
            row has more than 8 branches; 0 if they are exact.
        status: "ok", or what is absent or unreadable; `problems` has the reasons.
        parts: Column -> effects of its parts, as `Column.explain` returns them.
        words: Explanations of the words of a text.
    """

    predicted: str
    explained: str
    probability: float
    empty_probability: float
    shares: dict[str, float]
    status: str
    is_number: bool = False
    is_text: bool = False
    sampled_orders: int = 0
    problems: tuple[str, ...] = ()
    parts: dict[str, Any] = field(default_factory=dict)
    words: tuple[WordExplanation, ...] = ()


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
        value = find_explained_value(self.trained_model, self.predictor, inputs)
        values = {}
        for subset in subsets(present):
            hidden = [m for m in names if m not in subset]
            (values[subset],) = value.measure(inputs, hidden)  # (1 + W,)
        full, empty = values[present], values[()]
        shares = _shares(values, present, names)
        parts = self._parts(data, present, inputs, value.measure, full)
        problems = [*read.broken.values(), read.row.problem]
        return Explanation(
            predicted=value.predicted,
            explained=value.name,
            is_number=state.task == REGRESSION,
            is_text=state.task == GENERATE,
            sampled_orders=len(sampled_orders(present)),
            probability=float(full[0]),
            empty_probability=float(empty[0]),
            shares=shares[0],
            status=self._status(data, read),
            problems=tuple(filter(None, problems)),
            parts=parts[0],
            words=tuple(
                WordExplanation(
                    word=word,
                    log_probability=float(full[i]),
                    empty_log_probability=float(empty[i]),
                    shares=shares[i],
                    parts=parts[i],
                )
                for i, word in enumerate(value.words, 1)
            ),
        )

    def _status(self, data, read) -> str:
        """Returns the status of the served graph, with what could not be read."""
        (status,) = self.predictor.status({n: [x] for n, x in data.items()})
        return merge_status(status, read.status)

    def _parts(self, data, present, inputs, measure, full) -> list[dict[str, Any]]:
        """Returns column -> effects of its parts, on each of (1 + W,) numbers."""
        result = [{} for _ in full]
        for branch in present:
            columns = self.predictor.branches[branch].columns
            values = {c.name: data[c.name] for c in columns}
            for c in columns:
                if c.is_absent(data[c.name]):
                    continue

                def effects(contents, branch=branch, name=c.name, values=values):
                    rows = self._replace(inputs, branch, values, name, contents)
                    changed = np.concatenate([measure(batch) for batch in rows])
                    return full - changed  # (V, 1 + W)

                for i, part in enumerate(_explain_each(c, data[c.name], effects, full)):
                    if part is not None:
                        result[i][c.name] = part
        return result

    def _replace(self, inputs, branch, values, name, contents) -> Iterator[Arrays]:
        """Yields batches of the row with other contents of one column."""
        contents = iter(contents)
        while batch := list(islice(contents, _BATCH_ROWS)):
            rows = {k: np.repeat(x, len(batch), axis=0) for k, x in inputs.items()}
            data = {n: [value] * len(batch) for n, value in values.items()}
            yield self.predictor.replace_branch(rows, branch, data | {name: batch})


def _explain_each(column, value, effects, full) -> Iterator[Any]:
    """Yields what `Column.explain` returns for each column of `effects`.

    The variants of the row are measured once.
    """
    measured = []

    def first(contents):
        measured.append(effects(contents))
        return measured[0][:, 0]

    yield column.explain(value, first)
    for i in range(1, len(full)):
        yield column.explain(value, lambda _, i=i: measured[0][:, i])


def _shares(values, present, names) -> list[dict[str, float]]:
    """Returns branch -> Shapley value, of each number of (1 + W,) `values`."""
    shares = shapley_values(values, present)
    zeros = np.zeros_like(values[()])
    return [
        {m: float(shares.get(m, zeros)[i]) for m in names} for i in range(len(zeros))
    ]
