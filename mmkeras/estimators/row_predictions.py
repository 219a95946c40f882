"""Predictions and explanations of a table, row by row, in bounded memory."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from mmkeras.config import Config
from mmkeras.console import progress
from mmkeras.data.example_reader import (
    RowContent,
    batch_data,
    read_batches,
    unlabeled_rows,
)
from mmkeras.data.predictions_csv import merge_status
from mmkeras.data.table import warn_absent
from mmkeras.errors import Examples, warn_of_faults
from mmkeras.explanation.explainer import Explainer, Explanation
from mmkeras.export.inference import Predictor, TrainedModel
from mmkeras.schema import STATUS

_BATCH_ROWS = 64


class RowWarnings:
    """Warnings of rows that a model has read: empty columns, cells with faults."""

    def __init__(self):
        self._present, self._faults = set[str](), Examples()
        self._broken = Examples()

    def add(self, reads: Iterable[RowContent]) -> None:
        for read in reads:
            self._present |= read.row.present
            self._faults.add(read.faults)
            self._broken.add(
                f"{read.row.place}: {reason}"
                for reason in (*read.broken.values(), read.row.problem)
                if reason
            )

    def texts(self, columns: Iterable[str]) -> list[str]:
        """Returns the warnings; `columns` are those of the model."""
        texts = [*warn_absent(columns, self._present), *warn_of_faults(self._faults)]
        if self._broken:
            texts += [f"What cannot be read counts as absent: {self._broken}."]
        return texts


def predict_table(
    predictor: Predictor, config: Config, table: Any, warnings: RowWarnings
) -> Iterator[tuple[list[RowContent], dict[str, np.ndarray]]]:
    """Yields batches of rows and the outputs of the model, of at least one batch.

    An unreadable cell counts as absent. The output "status" is a list of str, which
    has what could not be read.

    Args:
        config: Settings of the model.
        table: Anything that `open_table` takes; labels are optional.
        warnings: Takes the warnings of the rows.

    Raises:
        UserError: The table lacks columns of the model, or cannot be read.
    """
    rows = 0
    with progress(desc="Predicting", unit="row") as bar:
        for batch in read_batches(table, config, _BATCH_ROWS, predictor.columns):
            warnings.add(batch)
            outputs = predictor(batch_data(predictor.columns, batch))
            outputs[STATUS] = [
                merge_status(status.decode(), read.status, read.row.problem)
                for status, read in zip(outputs[STATUS], batch, strict=True)
            ]
            yield batch, outputs
            bar.update(len(batch))
            rows += len(batch)
    if not rows:
        yield [], predictor(batch_data(predictor.columns, []))


def explain_table(
    trained_model: TrainedModel, table: Any, rows: int | None, warnings: RowWarnings
) -> Iterator[tuple[RowContent, Explanation]]:
    """Yields the first rows of a table, None being all, and their explanations.

    Arguments and errors are those of `predict_table`.
    """
    config, columns = trained_model.config, trained_model.preprocessor.columns
    reader, table_rows = unlabeled_rows(table, config, columns)
    explainer = Explainer(trained_model)
    reads = map(reader.read, islice(table_rows, rows))
    for read in progress(reads, "Explaining", total=rows, leave=False):
        warnings.add([read])
        yield read, explainer.explain(read)
