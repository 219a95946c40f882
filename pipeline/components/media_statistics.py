"""MediaStatistics: TFX component that reports sizes, lengths and missing modalities.

Sizes and lengths are read from StatisticsGen's output. One Beam pass over the examples
counts what StatisticsGen does not: missing modalities per class, values, and audio
that is silent or clipped.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tensorflow_metadata.proto.v0 import statistics_pb2
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts

from mmkeras.files import join_path, read_json
from mmkeras.schema import (
    ABSENT,
    AUDIO_CLIPPED,
    AUDIO_SILENT,
    INGESTED_FILE,
    LABEL,
    LABEL_SEPARATOR,
    STATUS,
    STATUS_SEPARATOR,
    UNREADABLE,
)
from pipeline.components import artifacts
from pipeline.components.custom_component import CustomComponent, make_spec
from pipeline.components.media_statistics_page import NUMBERS, VALUES, render
from pipeline.components.schema_gen import read_statistics

PRESENT = "present"
STATES = (PRESENT, ABSENT, UNREADABLE)
OTHER = "other"
MAX_VALUES = 1000  # per feature; all rarer ones are counted as "other"
MAX_CLASSES = 100  # per split; those with the most rows
# Audio with a larger share of clipped samples counts as clipped: 1 ms in each second,
# which is audible as crackling. One flat top of three samples may be chance.
CLIPPED_FROM = 0.001
_ROWS, _STATE, _CLASS, _MISSING, _AUDIO = "rows", "state", "class", "missing", "audio"


class Executor(BaseBeamExecutor):
    """Writes media_statistics.json and media_statistics.html."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        """Counts the rows in Beam and merges the counts with StatisticsGen's."""
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        statistics = read_statistics(
            artifact_utils.get_single_instance(input_dict["statistics"])
        )
        folder = artifact_utils.get_single_uri(output_dict["media_statistics"])
        dataset = read_json(examples.uri, INGESTED_FILE)
        path = join_path(folder, artifacts.STATISTICS_FILE)
        fileio.makedirs(folder)
        with self._make_beam_pipeline() as pipeline:
            counts = [
                _count_split(pipeline, examples, split, dataset["modalities"])
                for split in statistics
            ]
            (
                counts
                | beam.Flatten()
                | beam.combiners.ToList()
                | "Summarize" >> beam.Map(summarize, statistics, dataset["modalities"])
                | "Write" >> beam.Map(_write_json, path)
            )
        page = render(read_json(folder, artifacts.STATISTICS_FILE))
        _write(page, join_path(folder, artifacts.PAGE_FILE))


def _count_split(pipeline, examples, split, modalities):
    files = join_path(artifact_utils.get_split_uri([examples], split), "*")
    return (
        pipeline
        | f"Read {split}" >> beam.io.ReadFromTFRecord(files)
        | f"Keys of {split}" >> beam.FlatMap(count_keys, split, modalities)
        | f"Count {split}" >> beam.combiners.Count.PerElement()
    )


def _write_json(content, path):
    _write(json.dumps(content, ensure_ascii=False), path)


def _write(text, path):
    with fileio.open(path, "wb") as file:
        file.write(text.encode("utf-8"))


def count_keys(
    record: bytes, split: str, modalities: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """Yields the keys under which a serialized tf.Example is counted."""
    features = tf.train.Example.FromString(record).features.feature
    broken = _text(features, STATUS).split(STATUS_SEPARATOR)
    missing = []
    yield split, _ROWS
    for name in modalities:
        if any(_values(features, name)):
            state = PRESENT
        else:
            state = UNREADABLE if f"{name} {UNREADABLE}" in broken else ABSENT
            missing.append(name)
        yield split, _STATE, name, state
    for name in filter(None, _text(features, LABEL).split(LABEL_SEPARATOR)):
        yield split, _CLASS, name
        yield from ((split, _MISSING, name, modality) for modality in missing)
    for name in VALUES:
        yield from ((split, name, value) for value in _values(features, name)[:1])
    for silent in _values(features, AUDIO_SILENT)[:1]:
        yield split, _AUDIO, "measured"
        if silent == 1:
            yield split, _AUDIO, "silent"
    for clipped in _values(features, AUDIO_CLIPPED)[:1]:
        if clipped > CLIPPED_FROM:
            yield split, _AUDIO, "clipped"


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
    modalities: Sequence[str],
) -> dict[str, Any]:
    """Returns the content of media_statistics.json.

    `counts` are pairs of a key of `count_keys` and its number of rows; `statistics` is
    split -> StatisticsGen's output.
    """
    by_split = {split: Counter() for split in statistics}
    for (split, *key), number in counts:
        by_split[split][tuple(key)] = number
    return {
        "modalities": list(modalities),
        "clipped_from": CLIPPED_FROM,
        "splits": {
            split: {
                "rows": rows[(_ROWS,)],
                "modalities": {
                    m: {state: rows[_STATE, m, state] for state in STATES}
                    for m in modalities
                },
                "numbers": _numbers(statistics[split]),
                "values": {n: v for n in VALUES if (v := _by_value(rows, n))},
                "sounds": _audio_shares(rows),
                "classes": _classes(rows, modalities),
            }
            for split, rows in by_split.items()
        },
    }


def _numbers(statistics) -> dict[str, dict[str, Any]]:
    (dataset,) = statistics.datasets
    features = {feature.path.step[0]: feature.num_stats for feature in dataset.features}
    return {
        name: _number(features[name])
        for name in NUMBERS
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


def _by_value(rows: Counter, name: str) -> dict[str, int]:
    counts = Counter({key[1]: n for key, n in rows.items() if key[0] == name})
    result = {str(value): n for value, n in sorted(counts.most_common(MAX_VALUES))}
    rest = counts.total() - sum(result.values())
    return result | ({OTHER: rest} if rest else {})


def _audio_shares(rows: Counter) -> dict[str, float]:
    measured = rows[_AUDIO, "measured"]
    if not measured:
        return {}
    return {
        "measured": measured,
        "silent_share": rows[_AUDIO, "silent"] / measured,
        "clipped_share": rows[_AUDIO, "clipped"] / measured,
    }


def _classes(rows: Counter, modalities: Sequence[str]) -> dict[str, Any]:
    sizes = {key[1]: n for key, n in rows.items() if key[0] == _CLASS}
    names = sorted(sizes, key=lambda name: (sizes[name], name), reverse=True)
    return {
        "number": len(names),
        "largest": [
            {
                "name": name,
                "rows": sizes[name],
                "missing": {m: rows[_MISSING, name, m] for m in modalities},
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
