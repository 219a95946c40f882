"""Preprocessing state fitted on the training rows: classes, vocabularies, scales."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.config import Config, GenerateConfig
from mmkeras.data.dataset import Dataset, with_columns
from mmkeras.data.ingest_plan import FORMAT
from mmkeras.data.stored_rows import (
    AUTOTUNE,
    COLUMNS,
    is_present,
    no_autograph,
    read_rows,
)
from mmkeras.errors import UserError, format_names
from mmkeras.files import atomic_path
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.column import Column, Counts, Moments, Quantiles
from mmkeras.modalities.columns import build_branches, build_columns
from mmkeras.modalities.preprocessing_state import (
    GENERATE,
    MULTILABEL,
    REGRESSION,
    PreprocessingState,
)
from mmkeras.modalities.text.target import measure_texts, read_vocabulary
from mmkeras.schema import LABEL_SEPARATOR, TRAIN

_BATCH_ROWS, _READ_ROWS = 256, 64  # the second has all frames of its audio
# For quantiles: 4 MB of numbers per column, of at most 64 columns at once.
_QUANTILE_ROWS, _PASS_COLUMNS = 1_000_000, 64


def fit_preprocessing(dataset: Dataset, config: Config) -> PreprocessingState:
    """Fits classes, vocabularies and scales, or reads them from the cache.

    The cache is a file in the folder of the shards, named by a hash of the settings.

    Example:
        dataset = ingest(Path("data.csv"), config)
        state = fit_preprocessing(dataset, config)
    """
    config = with_columns(config, dataset)
    columns = build_columns(config)
    settings = [FORMAT, [(c.name, c.fit_key()) for c in columns], dataset.fingerprint]
    settings += [config.task, *([config.classes] if config.classes else [])]
    if config.task == GENERATE:
        settings += [_vocabulary_key(config.generate)]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    path = dataset.folder / f"analysis-{key}.json"
    if not path.exists():
        with atomic_path(path) as tmp_path:
            preprocessing_state.save(_fit(dataset, config), tmp_path)
    return preprocessing_state.load(path)


def _vocabulary_key(settings: GenerateConfig) -> list:
    """Returns what the vocabulary of the label's texts depends on."""
    return [settings.tokens, settings.vocab_size, read_vocabulary(settings)]


def _fit(dataset, config) -> PreprocessingState:
    task, classes, rows = _find_classes(dataset, config)
    columns, files = build_columns(config), dataset.files(TRAIN)
    branches, results = build_branches(columns, config), _measure(files, columns)
    return PreprocessingState(
        branches={b.name: tuple(c.name for c in b.columns) for b in branches},
        columns={c.name: c.fit(results[c.name]) for c in columns},
        task=task,
        classes=classes,
        class_rows=tuple(rows[name] for name in classes),
        rows=dataset.rows[TRAIN],
        label_scale=(
            preprocessing_state.fit_label_scale(dataset.labels[TRAIN])
            if task == REGRESSION
            else None
        ),
        texts=(
            measure_texts(dataset.labels[TRAIN], config.generate)
            if task == GENERATE
            else None
        ),
    )


def _find_classes(dataset, config) -> tuple[str, tuple[str, ...], Counter]:
    """Returns task, classes, and the training rows per class."""
    label_sets = (label for split in dataset.labels.values() for label in split)
    labels = [list(filter(None, s.split(LABEL_SEPARATOR))) for s in label_sets]
    columns = config.table.label_names
    task, classes = preprocessing_state.find_classes(labels, config.task, columns)
    if names := config.class_names:
        if unknown := sorted(set(classes) - set(names)):
            raise UserError(
                f"The table has labels that are not in classes='{config.classes}': "
                f"{format_names(unknown)}. Add them, or leave --classes out."
            )
        if task != MULTILABEL:
            sets, classes = [[name] for name in names], names
            task, _ = preprocessing_state.find_classes(sets, config.task)
    return task, classes, dataset.class_rows(TRAIN)


def _measure(files: Sequence[str], columns: Sequence[Column]) -> dict[str, Any]:
    """Returns column -> result of its statistic over the rows that have it."""
    statistics = [(c, s) for c in columns if (s := c.statistics()) is not None]
    results = dict.fromkeys(c.name for c in columns)
    for i in range(0, len(statistics), _PASS_COLUMNS):
        results |= _measure_together(files, dict(statistics[i : i + _PASS_COLUMNS]))
    return results


def _measure_together(files, statistics) -> dict[str, Any]:
    """Returns the results of statistics, by column, after one pass over the rows."""
    by_name = {c.name: statistic for c, statistic in statistics.items()}
    totals = {name: _TOTALS[type(s)](s) for name, s in by_name.items()}

    @no_autograph
    def select(row):
        return {name: _select(row[COLUMNS][name], s) for name, s in by_name.items()}

    @no_autograph
    def flatten(batch):
        values = {name: parts.flat_values for name, parts in batch.items()}
        counts = {n: s for n, s in by_name.items() if isinstance(s, Counts)}
        return values | {name: s.tokens(values[name]) for name, s in counts.items()}

    rows = read_rows(files, statistics).map(select, AUTOTUNE)
    for batch in rows.ragged_batch(_READ_ROWS).map(flatten).prefetch(1):
        for name, values in batch.items():
            totals[name].add(values)
    return {name: total.result() for name, total in totals.items()}


def _select(value, statistic):
    """Returns (1,) values to count or (N, D) vectors of a () value; none if absent."""
    if isinstance(statistic, Counts):
        return tf.boolean_mask(value[None], is_present(value)[None])

    def vectors():
        result = statistic.vector(value)
        is_sequence = getattr(statistic, "is_sequence", False)
        return result if is_sequence else result[None]

    shape = [None, statistic.width]
    none = tf.zeros([0, statistic.width])
    return tf.ensure_shape(tf.cond(is_present(value), vectors, lambda: none), shape)


class _CountsTotal:
    def __init__(self, statistic: Counts):
        self._counts, self._rows = Counter(), 0

    def add(self, tokens: tf.RaggedTensor) -> None:
        """Adds (B, L) tokens."""
        counts, rows = preprocessing_state.count_rows(tokens.to_list())
        self._counts.update(counts)
        self._rows += rows

    def result(self) -> tuple[Counter[bytes], int]:
        return self._counts, self._rows


class _MomentsTotal:
    def __init__(self, statistic: Moments):
        self._moments = preprocessing_state.Moments()
        self._rest = np.zeros([0, statistic.width], np.float32)

    def add(self, vectors: tf.Tensor) -> None:
        """Adds (N, D) vectors, in batches of one size: sums depend on it."""
        vectors = np.concatenate([self._rest, vectors.numpy()])
        while len(vectors) >= _BATCH_ROWS:
            self._moments.add(vectors[:_BATCH_ROWS])
            vectors = vectors[_BATCH_ROWS:]
        self._rest = vectors

    def result(self) -> tuple[np.ndarray, np.ndarray] | None:
        self._moments.add(self._rest)
        return self._moments.result()


class _QuantilesTotal:
    def __init__(self, statistic: Quantiles):
        self._statistic, self._bytes = statistic, bytearray()

    def add(self, vectors: tf.Tensor) -> None:
        """Adds (N, D) vectors."""
        size = 4 * self._statistic.width * _QUANTILE_ROWS
        self._bytes += vectors.numpy().tobytes()[: size - len(self._bytes)]

    def result(self) -> np.ndarray | None:
        if not self._bytes:
            return None
        vectors = np.frombuffer(self._bytes, np.float32)
        shares = np.linspace(0, 1, self._statistic.count)
        return np.nanquantile(
            vectors.reshape(-1, self._statistic.width), shares, axis=0
        )


_TOTALS = {Counts: _CountsTotal, Moments: _MomentsTotal, Quantiles: _QuantilesTotal}
