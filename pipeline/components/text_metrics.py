"""Metrics of generated text with 95 % intervals, as a single TFMA metric."""

import math
from itertools import chain

import apache_beam as beam
import tensorflow_model_analysis as tfma

from mmkeras.evaluation.text_metrics import (
    EXACT_MATCH,
    TEXT_METRICS,
    WORD_ERROR_RATE,
    measure_texts,
)
from mmkeras.names import split_references
from mmkeras.schema import GENERATED
from pipeline.components.per_class_metrics import ROWS

LOW, HIGH = "_low", "_high"


def bound_name(metric: str) -> str:
    """Returns the name of the worse end of the 95 % interval of a metric.

    Example:
        bound_name("bleu_4")  # "bleu_4_low"
    """
    return metric + (HIGH if metric == WORD_ERROR_RATE else LOW)


class TextScores(tfma.metrics.Metric):
    """All `TEXT_METRICS`, the worse ends of their intervals, and the number of rows.

    They are those of `measure_texts`. A metric is NaN without rows.
    """

    def __init__(self, resamples: int, seed: int, name: str = EXACT_MATCH):
        create = tfma.metrics.merge_per_key_computations(_computations)
        super().__init__(create, name=name, resamples=resamples, seed=seed)


def _computations(
    name: str, resamples: int, seed: int, model_name: str = ""
) -> tfma.metrics.MetricComputations:
    combiner = _Combine(model_name, resamples, seed)
    return [
        tfma.metrics.MetricComputation(
            keys=combiner.keys(), preprocessors=None, combiner=combiner
        )
    ]


class _Combine(beam.CombineFn):
    """Collects the label and the text of each row, as metrics are of all rows."""

    def __init__(self, model: str, resamples: int, seed: int):
        self._model, self._resamples, self._seed = model, resamples, seed

    def keys(self) -> list[tfma.metrics.MetricKey]:
        return [self._key(n) for n in (*_names(), ROWS)]

    def _key(self, name):
        # TFMA's thresholds of a key that is not the name of the metric have no weights.
        weights = None if name.endswith((LOW, HIGH)) else False
        return tfma.metrics.MetricKey(
            name, model_name=self._model, example_weighted=weights
        )

    def create_accumulator(self):
        return []

    def add_input(self, accumulator, element):
        prediction = element.predictions
        prediction = prediction[self._model] if self._model else prediction
        texts = (element.labels[GENERATED].item(), prediction[GENERATED].item())
        accumulator.append(texts)
        return accumulator

    def merge_accumulators(self, accumulators):
        return list(chain.from_iterable(accumulators))

    def extract_output(self, accumulator):
        values = dict.fromkeys(_names(), math.nan)
        if accumulator:
            # Resamples depend on the order of the rows, and Beam has none.
            labels, texts = zip(*sorted(accumulator), strict=True)
            references = list(map(split_references, labels))
            values = _measure(references, texts, self._resamples, self._seed)
        values[ROWS] = float(len(accumulator))
        return {self._key(name): value for name, value in values.items()}


def _names() -> list[str]:
    return [*TEXT_METRICS, *map(bound_name, TEXT_METRICS)]


def _measure(references, texts, resamples, seed) -> dict[str, float]:
    metrics = measure_texts(references, texts, resamples, seed)
    values = [metrics[name]["value"] for name in TEXT_METRICS]
    values += [metrics[n][bound_name(n).rpartition("_")[2]] for n in TEXT_METRICS]
    values = [math.nan if value is None else value for value in values]
    return dict(zip(_names(), values, strict=True))
