"""Transform: TFX component that fits classes, vocabulary and scales in Beam.

The results equal those of `mmkeras.data.fit_preprocessing`. Both use the same graph
functions; only the counting is TensorFlow Transform's.
"""

import json
from collections.abc import Callable
from dataclasses import replace
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
from mmkeras.data.dataset import Dataset, load_dataset, with_detected_encoders
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.audio.features import pad_frames
from mmkeras.modalities.preprocessing_state import PreprocessingState, Scale
from mmkeras.modalities.preprocessor import (
    Preprocessor,
    is_scaled,
    with_vocabulary,
    with_widths,
)
from mmkeras.modalities.row_safe import decode_rows
from mmkeras.modalities.text.features import tokenize
from mmkeras.schema import AUDIO, LABEL, LABEL_SEPARATOR, SPLIT, SPLITS, TEXT, TRAIN

_CLASSES, _CLASS_ROWS, _TOKENS = "classes", "class_rows", "tokens"
_ROWS, _TEXT_ROWS, _MOST_LABELS = "rows", "text_rows", "most_labels"
_MEAN, _DEVIATION = "mean", "deviation"


class Executor(executor.Executor):
    """TFX's executor, with the encoders and modalities detected in the rows."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        """Analyzes the training rows, and the class names of all splits."""
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        dataset = load_dataset(examples.uri)
        settings = json.loads(exec_properties["custom_config"])["config"]
        config = with_detected_encoders(from_dict(json.loads(settings)), dataset)
        splits = [split for split in SPLITS if dataset.rows[split]]
        custom = {"modalities": dataset.modalities, "widths": dataset.widths}
        custom_config = json.dumps({"config": to_dict(config), **custom})
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
    config = from_dict(custom_config["config"])
    names = [name for name in (LABEL, SPLIT, TEXT, AUDIO) if name in inputs]
    columns = {name: _strings(inputs[name]) for name in names}
    is_train = columns[SPLIT] == TRAIN
    results = _analyze_labels(columns[LABEL], is_train)
    for modality in (TEXT, AUDIO):
        if modality not in columns or modality not in custom_config["modalities"]:
            continue
        data = tf.boolean_mask(columns[modality], is_train)
        data = tf.boolean_mask(data, data != "")  # (N,) training rows that have it
        if modality == TEXT and config.text.has_vocabulary:
            results[_TEXT_ROWS] = _analyze_tokens(data, config)
        elif is_scaled(modality, config):
            row = _vector_of(modality, config, custom_config)
            results |= _analyze_vectors(modality, data, *row)
    rows = tf.size(is_train)
    return {
        name: tf.repeat(value[None], rows, axis=0) for name, value in results.items()
    }


def _strings(column: tf.Tensor | tf.SparseTensor) -> tf.Tensor:
    """Returns a column as (B,) strings, "" if it is missing."""
    if not isinstance(column, tf.SparseTensor):
        return tf.reshape(column, [-1])
    shape = tf.stack([column.dense_shape[0], 1])
    column = tf.SparseTensor(column.indices, column.values, shape)
    return tf.sparse.to_dense(column, "")[:, 0]


def _analyze_labels(labels, is_train) -> dict[str, tf.Tensor]:
    names = tf.strings.split(labels, LABEL_SEPARATOR)  # (B, labels) ragged
    tft.vocabulary(names.flat_values, vocab_filename=_CLASSES)
    train_names = tf.ragged.boolean_mask(names, is_train).flat_values
    tft.vocabulary(train_names, vocab_filename=_CLASS_ROWS, store_frequency=True)
    return {
        _MOST_LABELS: tft.max(names.row_lengths()),
        _ROWS: tft.sum(tf.cast(is_train, tf.int64)),
    }


def _analyze_tokens(texts, config: Config) -> tf.Tensor:
    """Counts the texts that contain each token; returns the number of texts."""
    tokens = tokenize(texts, config.text)
    row = tf.strings.as_string(tokens.value_rowids())
    pairs = tf.strings.join([row, tokens.flat_values], " ")
    _, index = tf.unique(pairs)  # (all,) number of the pair
    count = tf.reduce_max(tf.concat([index, [-1]], 0)) + 1
    first = tf.math.unsorted_segment_min(tf.range(tf.size(index)), index, count)
    has_pieces = config.text.tokens == "wordpiece"  # rare words have common ones
    tft.vocabulary(
        tf.gather(tokens.flat_values, first),
        vocab_filename=_TOKENS,
        frequency_threshold=1 if has_pieces else config.text.min_rows,
        store_frequency=True,
    )
    return tft.sum(tf.ones_like(texts, tf.int64))


def _vector_of(modality, config, custom_config) -> tuple[Callable, tf.TensorSpec]:
    """Returns the graph function from the bytes of a row to its unscaled vector."""
    state = PreprocessingState(
        modalities=(modality,),
        task="",
        classes=(),
        class_rows=(),
        widths=dict(custom_config["widths"]),
    )
    state = with_widths(state, config)
    # Without a token table, which TFT would have to track.
    preprocessor = Preprocessor(config, state)

    def row(data):
        vector = preprocessor.finish(modality, preprocessor.decode(modality, data))
        is_frames = modality == AUDIO and config.audio.is_sequence
        return pad_frames(vector, config.audio) if is_frames else vector

    return row, preprocessor.input_spec(modality)


def _analyze_vectors(modality, data, row, spec) -> dict[str, tf.Tensor]:
    vectors, _ = decode_rows(row, data, spec)  # (N, D), of frames (N, T, D)
    if spec.shape.rank == 2:
        is_frame = tf.reduce_any(vectors != 0, axis=2)
        vectors = tf.boolean_mask(vectors, is_frame)  # (all frames, D)
    vectors = tf.cast(vectors, tf.float64)
    mean = tft.mean(vectors, reduce_instance_dims=False)
    deviation = tf.sqrt(tft.var(vectors, reduce_instance_dims=False))
    width = spec.shape[-1:]
    return {
        f"{modality}_{name}": tf.cast(tf.ensure_shape(value, width), tf.float32)
        for name, value in ((_MEAN, mean), (_DEVIATION, deviation))
    }


def read_analysis(uri: str, dataset: Dataset, config: Config) -> PreprocessingState:
    """Reads the results of Transform from its graph; `config` has detected encoders."""
    graph = tft.TFTransformOutput(uri)
    numbers = _numbers(graph)
    classes = [(name.decode(),) for name in _vocabulary(graph, _CLASSES)]
    columns = config.table.label_names
    task, classes = preprocessing_state.find_classes(classes, columns=columns)
    if numbers[_MOST_LABELS] > 1:
        task = preprocessing_state.MULTILABEL
    counts = _counts(graph, _CLASS_ROWS)
    state = PreprocessingState(
        modalities=dataset.modalities,
        task=task,
        classes=classes,
        class_rows=tuple(counts.get(name.encode(), 0) for name in classes),
        rows=int(numbers[_ROWS]),
        widths=dict(dataset.widths),
    )
    if TEXT in state.modalities and config.text.has_vocabulary:
        counts = _counts(graph, _TOKENS) if _TEXT_ROWS in numbers else {}
        total = int(numbers.get(_TEXT_ROWS, 0))
        state = with_vocabulary(state, counts, total, config.text)
    state = with_widths(state, config)
    scaled = [m for m in state.modalities if is_scaled(m, config)]
    scales = {m: _scale(numbers, m, state.widths[m]) for m in scaled}
    return replace(state, scales=scales)


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
    """Returns the lines of a vocabulary."""
    path = graph.vocabulary_file_by_name(name)
    with tf.io.gfile.GFile(path, "rb") as file:
        return [line for line in file.read().split(b"\n") if line]


def _counts(graph, name) -> dict[bytes, int]:
    lines = (line.split(b" ", 1) for line in _vocabulary(graph, name))
    return {token: int(count) for count, token in lines if int(count)}


def _scale(numbers, modality, width) -> Scale:
    mean = numbers.get(f"{modality}_{_MEAN}")
    if mean is None or not np.isfinite(mean).all():  # no training row has the modality
        return preprocessing_state.unscaled(width)
    return preprocessing_state.make_scale(mean, numbers[f"{modality}_{_DEVIATION}"])
