"""R² and the errors of a regression, as a single TFMA metric."""

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma

from mmkeras.schema import VALUE
from pipeline.components.per_class_metrics import ROWS

R2, RMSE, MAE = "r2", "rmse", "mae"


class RegressionErrors(tfma.metrics.Metric):
    """R², root mean squared error, mean absolute error and number of rows.

    R² is NaN if all labels are equal. Sums are of labels minus `center`, a number near
    their mean, since those of large numbers would be inexact.
    """

    def __init__(self, center: float, name: str = R2):
        create = tfma.metrics.merge_per_key_computations(_computations)
        super().__init__(create, name=name, center=center)


def _computations(
    name: str, center: float, model_name: str = ""
) -> tfma.metrics.MetricComputations:
    combiner = _Combine(model_name, center)
    return [
        tfma.metrics.MetricComputation(
            keys=combiner.keys(), preprocessors=None, combiner=combiner
        )
    ]


class _Combine(beam.CombineFn):
    """Sums rows, labels, their squares, squared errors and absolute errors: (5,)."""

    def __init__(self, model: str, center: float):
        self._model, self._center = model, center

    def keys(self) -> list[tfma.metrics.MetricKey]:
        names = (R2, RMSE, MAE, ROWS)
        return [tfma.metrics.MetricKey(n, model_name=self._model) for n in names]

    def create_accumulator(self):
        return np.zeros(5)

    def add_input(self, accumulator, element):
        prediction = element.predictions
        prediction = prediction[self._model] if self._model else prediction
        label = element.labels[VALUE].item()
        error, label = prediction[VALUE].item() - label, label - self._center
        return accumulator + [1, label, label**2, error**2, abs(error)]

    def merge_accumulators(self, accumulators):
        return sum(accumulators)

    def extract_output(self, accumulator):
        rows, labels, squares, squared, absolute = accumulator
        rows = max(rows, 1.0)
        total = squares - labels**2 / rows  # around the mean of these rows
        is_constant = total <= 1e-12 * squares
        r2 = np.nan if is_constant else 1 - squared / total
        values = (r2, np.sqrt(squared / rows), absolute / rows, accumulator[0])
        return dict(zip(self.keys(), map(float, values), strict=True))
