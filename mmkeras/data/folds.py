"""Folds of an ingested data set: other divisions of its train and val rows."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from mmkeras.config import Config
from mmkeras.data.dataset import Dataset, with_columns
from mmkeras.data.splits import assign_folds
from mmkeras.data.stored_rows import read_rows
from mmkeras.data.targets import read_labeled_rows, stratify
from mmkeras.schema import ID, LABEL, TEST, TRAIN, VAL


def fold_datasets(dataset: Dataset, table: Any, config: Config) -> list[Dataset]:
    """Returns `config.ensemble.folds` data sets, each with another fold as val rows.

    The train and val rows are divided by label, with no group in two folds. All have
    the same shards and the same test rows.

    Raises:
        UserError: There are too few rows or groups.

    Example:
        for fold in fold_datasets(dataset, "rows.csv", config):
            fold.rows  # {"train": 68, "val": 17, "test": 15}
    """
    files = [path for split in (TRAIN, VAL) for path in dataset.files(split)]
    rows = list(read_rows(files, ()).as_numpy_iterator())
    ids = [row[ID].decode() for row in rows]
    labels = np.array([row[LABEL].decode() for row in rows], object)
    fold_of_id = _assign_folds(set(ids), dataset, table, config)
    fold_of_row = np.array([fold_of_id[id] for id in ids])
    result = []
    for fold in range(1, config.ensemble.folds + 1):
        masks = {TRAIN: fold_of_row != fold, VAL: fold_of_row == fold}
        counts = {split: dict(Counter(labels[mask])) for split, mask in masks.items()}
        sizes = {split: int(mask.sum()) for split, mask in masks.items()}
        result.append(
            replace(
                dataset,
                rows={**sizes, TEST: dataset.rows[TEST]},
                labels={**counts, TEST: dataset.labels[TEST]},
                masks=masks,
                parent=dataset,
            )
        )
    return result


def _assign_folds(ids, dataset, table, config) -> dict[str, int]:
    """Returns the fold of each row by its id; the groups are in the table only."""
    columns = list(with_columns(config, dataset).columns)
    rows = read_labeled_rows(table, config, columns)
    rows = [row for row in rows if row.id in ids and not row.problem]
    folds = assign_folds(
        stratify(rows, config.task), config.ensemble.folds, config.seed
    )
    return {row.id: fold for row, fold in zip(rows, folds, strict=True)}
