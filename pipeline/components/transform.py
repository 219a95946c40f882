"""Transform: TFX component that fits labels and the statistics of columns in Beam.

The results equal those of `mmkeras.data.fit_preprocessing`. Both use the same graph
functions; only the counting is TensorFlow Transform's.
"""

import json
from base64 import urlsafe_b64decode
from collections import defaultdict
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from tfx import types
from tfx.components import Transform
from tfx.components.transform import executor
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.proto import transform_pb2
from tfx.types import artifact_utils

from mmkeras.config import Config, from_dict, to_dict
from mmkeras.config.validation import AUTO
from mmkeras.data.dataset import load_dataset, with_columns
from mmkeras.data.stored_rows import is_present, no_autograph
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.column import Column, Counts, Moments, Quantiles
from mmkeras.modalities.columns import build_branches, build_columns
from mmkeras.modalities.preprocessing_state import (
    GENERATE,
    REGRESSION,
    PreprocessingState,
    TextStatistics,
)
from mmkeras.modalities.text.target import measure_texts
from mmkeras.schema import LABEL, LABEL_SEPARATOR, SPLIT, SPLITS, TRAIN, feature_name

_CLASSES, _CLASS_ROWS, _ROWS, _MOST_LABELS = "classes", "class_rows", "rows", "labels"
# Results of a column, before its key.
_MEAN, _DEVIATION, _TOKENS, _COUNTED = "mean_", "deviation_", "tokens_", "counted_"
_VALUES = "values_"
_EMPTY = b"49d0cd50-04bb-48c0-bc6f-5b575dce351a"  # TFT's token of an empty vocabulary


class Executor(executor.Executor):
    """TFX's executor, with the columns of the rows."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        """Analyzes the training rows, and the class names of all splits."""
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        dataset = load_dataset(examples.uri)
        settings = json.loads(exec_properties["custom_config"])["config"]
        config = with_columns(from_dict(json.loads(settings)), dataset)
        splits = [split for split in SPLITS if dataset.rows[split]]
        custom_config = json.dumps({"config": to_dict(config)})
        splits_config = json.dumps({"analyze": splits, "transform": splits})
        properties = {"custom_config": custom_config, "splits_config": splits_config}
        super().Do(input_dict, output_dict, exec_properties | properties)


class AnalyzingTransform(Transform):
    """Transform without materialized output, since training reads the raw bytes."""

    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        schema: types.BaseChannel,
        config: str,
        code: str,
    ):
        """Builds the component; `config` is `transform_settings` as JSON."""
        super().__init__(
            examples=examples,
            schema=schema,
            preprocessing_fn="pipeline.components.transform.preprocessing_fn",
            custom_config={"config": config, "code": code},
            splits_config=transform_pb2.SplitsConfig(
                analyze=[TRAIN], transform=[TRAIN]
            ),
            materialize=False,
            disable_statistics=True,
            disable_analyzer_cache=True,
        )


def preprocessing_fn(
    inputs: dict[str, tf.Tensor | tf.SparseTensor], custom_config: dict[str, Any]
) -> dict[str, tf.Tensor]:
    """Declares the analyzers; returns their results, which are equal in all rows."""
    is_train = _dense(inputs[SPLIT], "") == TRAIN
    results = _analyze_labels(_dense(inputs[LABEL], ""), is_train)
    for column in build_columns(from_dict(custom_config["config"])):
        statistic, feature = column.statistics(), feature_name(column.name)
        if statistic is not None and feature in inputs:
            data = _dense(inputs[feature], column.absent)
            data = tf.boolean_mask(data, is_train)
            data = tf.boolean_mask(data, is_present(data))  # (N,) rows that have it
            results |= _ANALYZERS[type(statistic)](data, statistic, column.key)
    rows = tf.size(is_train)
    return {
        name: tf.repeat(value[None], rows, axis=0) for name, value in results.items()
    }


def _dense(feature: tf.Tensor | tf.SparseTensor, absent: Any) -> tf.Tensor:
    """Returns a feature as (B,) values, `absent` where it is missing."""
    if not isinstance(feature, tf.SparseTensor):
        return tf.reshape(feature, [-1])
    shape = tf.stack([feature.dense_shape[0], 1])
    feature = tf.SparseTensor(feature.indices, feature.values, shape)
    return tf.sparse.to_dense(feature, absent)[:, 0]


def _analyze_labels(labels, is_train) -> dict[str, tf.Tensor]:
    names = tf.strings.split(labels, LABEL_SEPARATOR)  # (B, labels) ragged
    tft.vocabulary(names.flat_values, vocab_filename=_CLASSES)
    train_names = tf.ragged.boolean_mask(names, is_train).flat_values
    tft.vocabulary(train_names, vocab_filename=_CLASS_ROWS, store_frequency=True)
    return {
        _MOST_LABELS: tft.max(names.row_lengths()),
        _ROWS: tft.sum(tf.cast(is_train, tf.int64)),
    }


def _analyze_counts(data, statistic: Counts, key: str) -> dict[str, tf.Tensor]:
    """Counts the rows that contain each token, and all rows."""
    tokens = statistic.tokens(data)
    row = tf.strings.as_string(tokens.value_rowids())
    pairs = tf.strings.join([row, tokens.flat_values], " ")
    _, index = tf.unique(pairs)  # (all,) number of the pair
    count = tf.reduce_max(tf.concat([index, [-1]], 0)) + 1
    first = tf.math.unsorted_segment_min(tf.range(tf.size(index)), index, count)
    tft.vocabulary(
        tf.io.encode_base64(tf.gather(tokens.flat_values, first)),  # may have "\n"
        vocab_filename=_TOKENS + key,
        frequency_threshold=statistic.min_rows,
        store_frequency=True,
    )
    return {_COUNTED + key: tft.sum(tf.cast(tokens.nrows(), tf.int64)[None])}


def _analyze_moments(data, statistic: Moments, key: str) -> dict[str, tf.Tensor]:
    vectors = tf.cast(_vectors(data, statistic), tf.float64)
    mean = tft.mean(vectors, reduce_instance_dims=False)
    deviation = tf.sqrt(tft.var(vectors, reduce_instance_dims=False))
    return {
        # TFT drops the dimension of a single number.
        name + key: tf.cast(tf.broadcast_to(value, [statistic.width]), tf.float32)
        for name, value in ((_MEAN, mean), (_DEVIATION, deviation))
    }


def _analyze_quantiles(data, statistic: Quantiles, key: str) -> dict[str, tf.Tensor]:
    """Counts each value, since TFT's own quantiles are estimates."""
    values = tf.cast(_vectors(data, statistic), tf.float32)
    bits = tf.strings.as_string(tf.bitcast(values, tf.int32))
    element = tf.strings.as_string(tf.range(statistic.width))
    lines = tf.strings.join([tf.broadcast_to(element, tf.shape(bits)), bits], ",")
    lines = tf.boolean_mask(lines, ~tf.math.is_nan(values))
    tft.vocabulary(lines, vocab_filename=_VALUES + key, store_frequency=True)
    return {}


_ANALYZERS = {
    Counts: _analyze_counts,
    Moments: _analyze_moments,
    Quantiles: _analyze_quantiles,
}


def _vectors(data: tf.Tensor, statistic: Moments | Quantiles) -> tf.Tensor:
    """Returns (N, D) vectors of (B,) values, or all frames of sequences."""
    vectors = tf.data.Dataset.from_tensor_slices(data)
    vectors = vectors.map(no_autograph(statistic.vector), tf.data.AUTOTUNE)
    if getattr(statistic, "is_sequence", False):
        vectors = vectors.unbatch()
    first = tf.zeros([statistic.width], vectors.element_spec.dtype)
    vectors = tf.data.Dataset.from_tensors(first).concatenate(vectors)
    # One batch of all; it is not empty, as its first vector is none of the data.
    vectors = vectors.batch(tf.int64.max).get_single_element()[1:]
    return tf.ensure_shape(vectors, [None, statistic.width])


def read_analysis(uri: str, config: Config) -> PreprocessingState:
    """Reads the results of Transform from its graph; `config` has the columns."""
    graph = tft.TFTransformOutput(uri)
    numbers = _numbers(graph)
    classes = [(name.decode(),) for name in _vocabulary(graph, _CLASSES)]
    columns = config.table.label_names
    task, classes = preprocessing_state.find_classes(classes, config.task, columns)
    if config.task == AUTO and numbers[_MOST_LABELS] > 1:
        task = preprocessing_state.MULTILABEL
    counts, columns = _counts(graph, _CLASS_ROWS), build_columns(config)
    branches = build_branches(columns, config)
    return PreprocessingState(
        branches={b.name: tuple(c.name for c in b.columns) for b in branches},
        columns={c.name: c.fit(_result(graph, numbers, c)) for c in columns},
        task=task,
        classes=classes,
        class_rows=tuple(counts.get(name.encode(), 0) for name in classes),
        rows=int(numbers[_ROWS]),
        label_scale=(
            preprocessing_state.fit_label_scale(counts) if task == REGRESSION else None
        ),
        texts=_measure_texts(counts, config) if task == GENERATE else None,
    )


def _measure_texts(counts, config) -> TextStatistics:
    texts = {text.decode(): rows for text, rows in counts.items()}
    return measure_texts(texts, config.generate)


def _result(graph, numbers, column: Column) -> Any:
    """Returns the result of a column's statistic, as `Column.fit` takes it."""
    statistic, key = column.statistics(), column.key
    if isinstance(statistic, Counts):
        counts = _counts(graph, _TOKENS + key)
        tokens = {urlsafe_b64decode(token + b"=="): n for token, n in counts.items()}
        return tokens, int(numbers.get(_COUNTED + key, 0))
    if isinstance(statistic, Quantiles):
        counts = _counts(graph, _VALUES + key)
        return _quantiles(counts, statistic) if counts else None
    mean = numbers.get(_MEAN + key)
    if mean is None or not np.isfinite(mean).all():  # no training row has the column
        return None
    return mean, numbers[_DEVIATION + key]


def _quantiles(counts: dict[bytes, int], statistic: Quantiles) -> np.ndarray:
    """Returns (count, D) quantiles from the counts of the values of each element."""
    bits, shares = defaultdict(list), np.linspace(0, 1, statistic.count)
    for line, count in counts.items():
        element, value = map(int, line.split(b","))
        bits[element] += [value] * count
    values = [np.array(bits[i], np.int32) for i in range(statistic.width)]
    return np.stack(
        [
            np.quantile(x.view(np.float32), shares) if len(x) else shares * np.nan
            for x in values
        ],
        axis=1,
    )


def _numbers(graph: tft.TFTransformOutput) -> dict[str, np.ndarray]:
    """Returns the numeric results, by transforming an empty row."""
    indices = tf.zeros([0, 2], tf.int64)
    empty = {
        name: tf.SparseTensor(indices, tf.zeros([0], f.dtype), [1, 0])
        if isinstance(f, tf.io.VarLenFeature)
        else tf.zeros([1, *f.shape], f.dtype)
        for name, f in graph.raw_feature_spec().items()
    }
    results = graph.transform_features_layer()(empty)
    return {name: value.numpy()[0] for name, value in results.items()}


def _vocabulary(graph, name) -> list[bytes]:
    """Returns the lines of a vocabulary, none if no row has the column."""
    path = graph.vocabulary_file_by_name(name)
    if path is None:
        return []
    with tf.io.gfile.GFile(path, "rb") as file:
        return [line for line in file.read().split(b"\n") if line]


def _counts(graph, name) -> dict[bytes, int]:
    lines = (line.split(b" ", 1) for line in _vocabulary(graph, name))
    return {token: int(count) for count, token in lines if token != _EMPTY}
