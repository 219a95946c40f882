"""MediaStatistics: TFX component that reports sizes, lengths and missing columns.

Sizes and lengths are read from StatisticsGen's output. One Beam pass over the examples
counts what StatisticsGen does not: missing columns per class, values, and faults such
as audio that is silent.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts

from mmkeras.data.dataset import load_dataset
from mmkeras.files import join_path, read_json
from mmkeras.modalities.column import Column
from mmkeras.modalities.preprocessing_state import GENERATE, REGRESSION
from mmkeras.schema import (
    ABSENT,
    LABEL,
    LABEL_SEPARATOR,
    STATUS,
    STATUS_SEPARATOR,
    UNREADABLE,
    feature_name,
)
from pipeline.components import artifacts
from pipeline.components.custom_component import CustomComponent, make_spec
from pipeline.components.media_statistics_page import render
from pipeline.components.statistics_gen import read_columns, read_statistics

PRESENT = "present"
STATES = (PRESENT, ABSENT, UNREADABLE)
OTHER = "other"
MAX_VALUES = 1000  # per feature; all rarer ones are counted as "other"
MAX_CLASSES = 100  # per split; those with the most rows
_ROWS, _STATE, _CLASS, _MISSING = "rows", "state", "class", "missing"
_VALUE, _MEASURED, _FAULTY = "value", "measured", "faulty"
# Column -> what is reported of it; see `describe_columns`.
Columns = Mapping[str, Mapping[str, Any]]


class Executor(BaseBeamExecutor):
    """Writes media_statistics.json and media_statistics.html."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        """Counts the rows in Beam and merges the counts with StatisticsGen's."""
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        statistics = read_statistics(
            artifact_utils.get_single_instance(input_dict["statistics"])
        )
        folder = artifact_utils.get_single_uri(output_dict["media_statistics"])
        columns = describe_columns(read_columns(examples))
        dataset = load_dataset(examples.uri)
        labels = dataset.labels if dataset.task == REGRESSION else {}
        has_classes = dataset.task not in (REGRESSION, GENERATE)
        path = join_path(folder, artifacts.STATISTICS_FILE)
        fileio.makedirs(folder)
        with self._make_beam_pipeline() as pipeline:
            counts = [
                _count_split(pipeline, examples, split, columns, has_classes)
                for split in statistics
            ]
            (
                counts
                | beam.Flatten()
                | beam.combiners.ToList()
                | "Summarize" >> beam.Map(summarize, statistics, columns, labels)
                | "Write" >> beam.Map(_write_json, path)
            )
        page = render(read_json(folder, artifacts.STATISTICS_FILE))
        _write(page, join_path(folder, artifacts.PAGE_FILE))


def describe_columns(columns: Iterable[Column]) -> dict[str, dict[str, Any]]:
    """Returns the names, features, titles and limits of columns, ready for JSON.

    Titles of a feature with a distribution, of one whose values are counted, and of a
    fault are by feature.
    """
    result = {}
    for column in columns:
        feature = feature_name(column.name)
        result[column.name] = {
            "type": column.type,
            "feature": feature,
            "note": column.measured_note,
        } | {
            kind: {f"{feature}_{x}": t for x, t in getattr(column, kind).items()}
            for kind in ("measured", "counted", "faults")
        }
    return result


def _count_split(pipeline, examples, split, columns, has_classes):
    files = join_path(artifact_utils.get_split_uri([examples], split), "*")
    return (
        pipeline
        | f"Read {split}" >> beam.io.ReadFromTFRecord(files)
        | f"Keys of {split}" >> beam.FlatMap(count_keys, split, columns, has_classes)
        | f"Count {split}" >> beam.combiners.Count.PerElement()
    )


def _write_json(content, path):
    _write(json.dumps(content, ensure_ascii=False), path)


def _write(text, path):
    with fileio.open(path, "wb") as file:
        file.write(text.encode("utf-8"))


def count_keys(
    record: bytes, split: str, columns: Columns, has_classes: bool = True
) -> Iterator[tuple[Any, ...]]:
    """Yields the keys under which a serialized tf.Example is counted."""
    features = tf.train.Example.FromString(record).features.feature
    broken = _text(features, STATUS).split(STATUS_SEPARATOR)
    missing = []
    yield split, _ROWS
    for name, column in columns.items():
        if any(x == x and x != b"" for x in _values(features, column["feature"])):
            state = PRESENT
        else:
            state = UNREADABLE if f"{name} {UNREADABLE}" in broken else ABSENT
            missing.append(name)
        yield split, _STATE, name, state
        for feature in column["counted"]:
            for value in _values(features, feature)[:1]:
                yield split, _VALUE, feature, value
        for feature, (_, limit) in column["faults"].items():
            for value in _values(features, feature)[:1]:
                yield split, _MEASURED, feature
                if value >= limit:
                    yield split, _FAULTY, feature
    classes = _text(features, LABEL).split(LABEL_SEPARATOR) if has_classes else ()
    for name in filter(None, classes):
        yield split, _CLASS, name
        yield from ((split, _MISSING, name, column) for column in missing)


def _values(features, name):
    if name not in features:  # indexing the map would insert the name
        return ()
    kind = features[name].WhichOneof("kind")
    return getattr(features[name], kind).value if kind else ()


def _text(features, name):
    return b"".join(_values(features, name)).decode("utf-8", "replace")


def summarize(
    counts: Iterable[tuple[tuple, int]],
    statistics: Mapping[str, statistics_pb2.DatasetFeatureStatisticsList],
    columns: Columns,
    labels: Mapping[str, Mapping[str, int]] | None = None,
) -> dict[str, Any]:
    """Returns the content of media_statistics.json.

    `counts` are pairs of a key of `count_keys` and its number of rows; `statistics` is
    split -> StatisticsGen's output; `labels`, of a regression, is split -> label -> its
    number of rows.
    """
    numbers = {s: {LABEL: _label_number(n)} for s, n in (labels or {}).items() if n}
    by_split = {split: Counter() for split in statistics}
    for (split, *key), number in counts:
        by_split[split][tuple(key)] = number
    return {
        "columns": columns,
        "splits": {
            split: {
                "rows": rows[(_ROWS,)],
                "columns": {
                    name: {state: rows[_STATE, name, state] for state in STATES}
                    for name in columns
                },
                "numbers": {
                    **_numbers(statistics[split], _features(columns, "measured")),
                    **numbers.get(split, {}),
                },
                "values": {
                    name: values
                    for name in _features(columns, "counted")
                    if (values := _by_value(rows, name))
                },
                "faults": {
                    name: {"rows": count, "share": rows[_FAULTY, name] / count}
                    for name in _features(columns, "faults")
                    if (count := rows[_MEASURED, name])
                },
                "classes": _classes(rows, columns),
            }
            for split, rows in by_split.items()
        },
    }


def _features(columns: Columns, kind: str) -> list[str]:
    return [feature for column in columns.values() for feature in column[kind]]


def _numbers(statistics, names) -> dict[str, dict[str, Any]]:
    (dataset,) = statistics.datasets
    features = {feature.path.step[0]: feature.num_stats for feature in dataset.features}
    return {
        name: _number(features[name])
        for name in names
        if name in features and features[name].common_stats.num_non_missing
    }


def _number(stats: statistics_pb2.NumericStatistics) -> dict[str, Any]:
    histograms = {histogram.type: histogram.buckets for histogram in stats.histograms}
    bars = histograms[statistics_pb2.Histogram.STANDARD]
    quantiles = histograms[statistics_pb2.Histogram.QUANTILES]
    return {
        "rows": stats.common_stats.num_non_missing,
        "min": stats.min,
        "max": stats.max,
        "mean": stats.mean,
        "deviation": stats.std_dev,
        "median": stats.median,
        "p05": quantiles[0].high_value,  # of 20 buckets
        "p95": quantiles[-1].low_value,
        "histogram": {
            "edges": [bars[0].low_value, *(bar.high_value for bar in bars)],
            "rows": [round(bar.sample_count) for bar in bars],
        },
    }


def _label_number(labels: Mapping[str, int]) -> dict[str, Any]:
    """Returns what `_number` does, of label -> number of rows."""
    numbers = np.repeat([*map(float, labels)], [*labels.values()])
    shares = (0.05, 0.5, 0.95)
    p05, median, p95 = np.quantile(numbers, shares, method="inverted_cdf").tolist()
    bars, edges = np.histogram(numbers)
    return {
        "rows": len(numbers),
        "min": float(numbers.min()),
        "max": float(numbers.max()),
        "mean": float(numbers.mean()),
        "deviation": float(numbers.std()),
        "median": median,
        "p05": p05,
        "p95": p95,
        "histogram": {"edges": edges.tolist(), "rows": bars.tolist()},
    }


def _by_value(rows: Counter, name: str) -> dict[str, int]:
    counts = Counter({k[2]: n for k, n in rows.items() if k[:2] == (_VALUE, name)})
    result = {str(value): n for value, n in sorted(counts.most_common(MAX_VALUES))}
    rest = counts.total() - sum(result.values())
    return result | ({OTHER: rest} if rest else {})


def _classes(rows: Counter, columns: Columns) -> dict[str, Any]:
    sizes = {key[1]: n for key, n in rows.items() if key[0] == _CLASS}
    names = sorted(sizes, key=lambda name: (sizes[name], name), reverse=True)
    return {
        "number": len(names),
        "largest": [
            {
                "name": name,
                "rows": sizes[name],
                "missing": {c: rows[_MISSING, name, c] for c in columns},
            }
            for name in names[:MAX_CLASSES]
        ],
    }


class MediaStatistics(CustomComponent, BaseBeamComponent):
    """Component of the executor above; `statistics` is StatisticsGen's output."""

    SPEC_CLASS = make_spec(
        inputs={
            "examples": standard_artifacts.Examples,
            "statistics": standard_artifacts.ExampleStatistics,
        },
        outputs={"media_statistics": artifacts.MediaStatistics},
        parameters={"code": str},
    )
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)
