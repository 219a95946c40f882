"""Preprocessing state fitted on the training rows: classes, vocabularies, scales."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mmkeras.config import Config
from mmkeras.data.dataset import Dataset, with_columns
from mmkeras.data.ingest_plan import FORMAT
from mmkeras.data.input_pipeline import (
    AUTOTUNE,
    COLUMNS,
    is_present,
    no_autograph,
    read_rows,
)
from mmkeras.files import atomic_path
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.column import Column, Counts, Moments, Quantiles
from mmkeras.modalities.columns import build_branches, build_columns
from mmkeras.modalities.preprocessing_state import PreprocessingState
from mmkeras.schema import LABEL_SEPARATOR, TRAIN

_BATCH_ROWS = 256
# For quantiles: 8 MB of numbers per column.
_QUANTILE_ROWS = 1_000_000


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
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
    path = dataset.folder / f"analysis-{key}.json"
    if not path.exists():
        with atomic_path(path) as tmp_path:
            preprocessing_state.save(_fit(dataset, config), tmp_path)
    return preprocessing_state.load(path)


def _fit(dataset, config) -> PreprocessingState:
    label_sets = (label for split in dataset.labels.values() for label in split)
    labels = [label.split(LABEL_SEPARATOR) for label in label_sets]
    task, classes = preprocessing_state.find_classes(labels)
    rows, columns = dataset.class_rows(TRAIN), build_columns(config)
    files = dataset.files(TRAIN)
    branches = build_branches(columns, config)
    return PreprocessingState(
        branches={b.name: tuple(c.name for c in b.columns) for b in branches},
        columns={c.name: c.fit(_measure(files, c)) for c in columns},
        task=task,
        classes=classes,
        class_rows=tuple(rows[name] for name in classes),
        rows=dataset.rows[TRAIN],
    )


def _measure(files: Sequence[str], column: Column) -> Any:
    """Returns the result of a column's statistic over the rows that have it."""
    statistic, name = column.statistics(), column.name
    if statistic is None:
        return None
    has_column = no_autograph(lambda row: is_present(row[COLUMNS][name]))
    values = read_rows(files, [column]).filter(has_column)
    values = values.map(no_autograph(lambda row: row[COLUMNS][name]))
    if isinstance(statistic, Counts):
        return preprocessing_state.count_rows(_tokens(values, statistic))
    vectors = values.map(no_autograph(statistic.vector), AUTOTUNE)
    if isinstance(statistic, Quantiles):
        return _quantiles(vectors, statistic)
    return _moments(vectors, statistic)


def _tokens(values, statistic: Counts) -> Iterator[list[bytes]]:
    for batch in (
        values.batch(_BATCH_ROWS).map(no_autograph(statistic.tokens)).prefetch(1)
    ):
        yield from batch.to_list()


def _moments(vectors, statistic: Moments):
    if statistic.is_sequence:
        vectors = vectors.unbatch()  # frames
    moments = preprocessing_state.Moments()
    for batch in vectors.batch(_BATCH_ROWS).prefetch(1):
        moments.add(batch.numpy())
    return moments.result()


def _quantiles(vectors, statistic: Quantiles):
    batches = vectors.take(_QUANTILE_ROWS).batch(_BATCH_ROWS).prefetch(1)
    parts = [batch.numpy() for batch in batches]
    if not parts:
        return None
    shares = np.linspace(0, 1, statistic.count)
    return np.nanquantile(np.concatenate(parts), shares, axis=0)
