"""Ingested data set: TFRecord shards and a JSON file that describes them."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmkeras.config import Config
from mmkeras.config.validation import AUTO
from mmkeras.data.dataset_warnings import (
    class_names,
    suspicious_rows,
    warn_of_columns,
    warn_of_suspicious,
    warn_unlearned,
)
from mmkeras.data.ingest_plan import BadRow, IngestPlan, rejection_message
from mmkeras.data.shards import ShardSummary, bad_rows
from mmkeras.data.targets import LABEL_KINDS
from mmkeras.errors import UserError
from mmkeras.files import csv_text, join_path, read_json
from mmkeras.modalities.columns import column_entry, recognised_entry
from mmkeras.names import clean_name
from mmkeras.schema import INGESTED_FILE, LABEL_SEPARATOR, SPLITS, TRAIN, VAL


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Shards in a folder, and statistics of their rows.

    Attributes that are not listed are those of the plan or of the shards.

    Attributes:
        folder: Folder of the shards; local or a URI.
        columns: Column -> its entry in `Config.columns`, without settings that the
            content of the table does not decide.
        shards: Split -> file names.
        rows: Split -> number of rows.
        labels: Split -> {labels of a row joined by "|": number of rows}.
        absent: Column -> number of rows without it, in all splits.
        formats: Column -> formats of its files that occur.
        suspicious: Usable rows that a warning is about, and the reason.
        content: Hash of the rows' content, independent of paths and times.
        task: Task that the labels were read for; earlier versions did not write it.
        masks: Split -> (N,) bool, in a fold: which of the train and val rows of the
            shards the split has.
        parent: Data set of a fold, with the splits of the table; None if this is it.
    """

    folder: str | Path
    columns: dict[str, Any]
    shards: dict[str, list[str]]
    rows: dict[str, int]
    labels: dict[str, dict[str, int]]
    absent: dict[str, int]
    formats: dict[str, list[str]]
    unreadable: tuple[BadRow, ...]
    rejected: tuple[BadRow, ...]
    warnings: tuple[str, ...]
    suspicious: tuple[BadRow, ...]
    fingerprint: str
    content: str
    split_fingerprint: str
    task: str = AUTO
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    parent: "Dataset | None" = None

    def sources(self, split: str) -> tuple[str, ...]:
        """Returns the splits of the shards that have the rows: two in a fold."""
        return (TRAIN, VAL) if split in self.masks else (split,)

    def stored_rows(self, split: str) -> int:
        """Returns the number of rows in `files`."""
        rows = (self.parent or self).rows
        return sum(rows[source] for source in self.sources(split))

    def files(self, split: str) -> list[str]:
        names = [x for source in self.sources(split) for x in self.shards[source]]
        return [join_path(self.folder, name) for name in names]

    def class_rows(self, split: str) -> Counter:
        """Returns the rows per class; a row with several labels counts for each."""
        counts = Counter()
        for label, rows in self.labels[split].items():
            for name in label.split(LABEL_SEPARATOR):
                if name:  # none in a row without a class
                    counts[name] += rows
        return counts


def load_dataset(folder: str | Path) -> Dataset:
    """Reads the data set that `ingest` wrote to the folder."""
    content = read_json(folder, INGESTED_FILE)
    for name in ("unreadable", "rejected", "suspicious"):
        content[name] = tuple(BadRow(**bad) for bad in content[name])
    content["warnings"] = tuple(content["warnings"])
    return Dataset(folder=folder, **content)


def with_columns(config: Config, dataset: Dataset) -> Config:
    """Returns the settings with the columns of the data set.

    The data set has their types; their other settings are those of `config`, which the
    shards do not depend on.
    """
    declared = {clean_name(n): column_entry(n, e) for n, e in config.columns.items()}
    columns = {n: {**declared.get(n, {}), **e} for n, e in dataset.columns.items()}
    return replace(config, columns=columns)


def bad_rows_csv(rows: Sequence[BadRow]) -> str:
    """Returns the text of rejected.csv or warnings.csv."""
    cells = ((row.line, row.id, row.problem) for row in rows)
    return csv_text([("line", "id", "problem"), *cells])


def summarize_shards(
    plan: IngestPlan, summaries: Sequence[ShardSummary]
) -> dict[str, Any]:
    """Returns the content of the data set's JSON file, from all shards in plan order.

    Raises:
        UserError: Rows are bad and `config.on_bad_row` is "fail", or a split or the
            classes would be empty.
    """
    rejected = [*plan.rejected, *bad_rows(summaries, "rejected")]
    rejected.sort(key=lambda row: row.line)
    if rejected and plan.config.on_bad_row == "fail":
        raise UserError(rejection_message(rejected, plan.rows))
    rows, labels = dict.fromkeys(SPLITS, 0), {split: Counter() for split in SPLITS}
    shards = {split: [] for split in SPLITS}
    absent = Counter(dict.fromkeys(plan.columns, 0))
    for summary in summaries:
        rows[summary.split] += summary.rows
        labels[summary.split].update(summary.labels)
        absent.update(summary.absent)
        if summary.rows:
            shards[summary.split].append(summary.name)
    splits = {shard.split for shard in plan.shards}
    if problem := _find_empty(splits, rows, labels, plan.config.task):
        bad = rejection_message(rejected, plan.rows) if rejected else ""
        raise UserError(f"{problem}\n{bad}".rstrip())
    formats = {name: set() for name in plan.columns}
    for summary in summaries:
        for name, kinds in summary.formats.items():
            formats[name].update(kinds)
    contents = "".join(summary.content for summary in summaries)
    suspicious = suspicious_rows(summaries)
    return {
        "columns": {n: recognised_entry(e) for n, e in plan.config.columns.items()},
        "shards": shards,
        "rows": rows,
        "labels": labels,
        "absent": absent,
        "formats": {name: sorted(kinds) for name, kinds in formats.items()},
        "unreadable": [asdict(row) for row in bad_rows(summaries, "unreadable")],
        "rejected": [asdict(row) for row in rejected],
        "warnings": [
            *plan.warnings,
            *warn_of_columns(plan, summaries),
            *warn_of_suspicious(suspicious, summaries, plan.config),
            *([] if plan.config.task in LABEL_KINDS else warn_unlearned(labels)),
        ],
        "suspicious": [asdict(row) for rows in suspicious.values() for row in rows],
        "fingerprint": plan.fingerprint,
        "content": hashlib.sha256(contents.encode()).hexdigest(),
        "split_fingerprint": plan.split_fingerprint,
        "task": plan.config.task,
    }


def _find_empty(splits, rows, labels, task) -> str:
    """Returns what no usable row is left for, splits or classes, or ""."""
    empty = [split for split in SPLITS if split in splits and not rows[split]]
    if empty:
        return (
            f"No usable row is left in {', '.join(empty)}: correct the rejected rows, "
            "or give more rows to these splits."
        )
    if TRAIN in splits and len(class_names(labels[TRAIN])) < 2:
        kind = LABEL_KINDS.get(task, "class")
        return f"The usable training rows have one {kind} only; training needs two."
    return ""
