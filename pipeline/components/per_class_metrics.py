"""Precision, recall and ROC-AUC of each class, as one TFMA metric for all of them.

TFMA's own way is several metrics a class, each with its own pass over each row: with
100 classes and a baseline 0.2 s a row in all, against 6 ms with this one.
"""

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from scipy.special import logit

from pipeline.components.masked_modality_eval import CHOICE, LOWEST, SCORES

PRECISION, RECALL, AUC, ROWS = "precision", "recall", "auc", "rows"

# Scores are ranked by their log odds, in bins that are narrow (0.06) at every height;
# what shares a bin counts as equal.
_BINS = 500


class ByClass(tfma.metrics.Metric):
    """The metrics of each class, and as AUC of no class the mean of those known.

    They are NaN where the rows cannot tell: no row of the class, none of another, or
    none that was taken for it.
    """

    def __init__(self, classes: int, name: str = "by_class"):
        create = tfma.metrics.merge_per_key_computations(_computations)
        super().__init__(create, name=name, classes=classes)


def _computations(
    name: str, classes: int, model_name: str = ""
) -> tfma.metrics.MetricComputations:
    combiner = _Combine(model_name, classes)
    return [
        tfma.metrics.MetricComputation(
            keys=combiner.keys(), preprocessors=None, combiner=combiner
        )
    ]


class _Combine(beam.CombineFn):
    """Counts rows by class: (4, C) in all, and (2, C, bins) by truth and score."""

    def __init__(self, model: str, classes: int):
        self._model, self._classes = model, classes

    def keys(self) -> list[tfma.metrics.MetricKey]:
        by_class = [
            self._key(name, i)
            for name in (PRECISION, RECALL, AUC, ROWS)
            for i in range(self._classes)
        ]
        return [*by_class, self._key(AUC)]

    def _key(self, name, class_id=None):
        sub_key = None if class_id is None else tfma.metrics.SubKey(class_id=class_id)
        return tfma.metrics.MetricKey(name, model_name=self._model, sub_key=sub_key)

    def create_accumulator(self):
        ranked = np.zeros((2, self._classes, _BINS), np.int32)
        return np.zeros((4, self._classes), np.int64), ranked

    def add_input(self, accumulator, element):
        counts, ranked = accumulator
        said = element.predictions
        said = said[self._model] if self._model else said
        truth = element.labels[CHOICE][: self._classes].astype(int)  # (C,)
        chosen = said[CHOICE][: self._classes].astype(int)
        counts += [truth & chosen, truth, chosen, np.ones_like(truth)]
        height = (logit(said[SCORES]) / logit(1 - LOWEST) + 1) / 2  # from 0 to 1
        places = np.clip((height * _BINS).astype(int), 0, _BINS - 1)
        ranked[truth, np.arange(self._classes), places] += 1
        return accumulator

    def merge_accumulators(self, accumulators):
        counts, ranked = zip(*accumulators, strict=True)
        return sum(counts), sum(ranked)

    def extract_output(self, accumulator):
        (both, true, chosen, rows), (others, own) = accumulator
        below = others.cumsum(axis=1) - others / 2  # (C, bins), equal ones half
        auc = _ratio((own * below).sum(axis=1), true * (rows - true))
        values = {
            PRECISION: _ratio(both, chosen),
            RECALL: _ratio(both, true),
            AUC: auc,
            ROWS: true.astype(float),
        }
        result = {
            self._key(name, i): float(value)
            for name, column in values.items()
            for i, value in enumerate(column)
        }
        known = auc[~np.isnan(auc)]
        result[self._key(AUC)] = float(known.mean()) if len(known) else float("nan")
        return result


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns part / whole, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
