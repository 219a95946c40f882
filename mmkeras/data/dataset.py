"""Ingested data set: TFRecord shards and a JSON file that describes them."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmkeras.config import Config
from mmkeras.data.dataset_warnings import (
    class_names,
    suspicious_rows,
    warn_of_columns,
    warn_of_suspicious,
    warn_unlearned,
)
from mmkeras.data.ingest_plan import BadRow, IngestPlan, rejection_message
from mmkeras.data.shards import ShardSummary, bad_rows
from mmkeras.errors import UserError
from mmkeras.files import csv_text, join_path, read_json
from mmkeras.modalities.image.decoding import KINDS
from mmkeras.modalities.preprocessing_state import REGRESSION
from mmkeras.schema import (
    AUDIO,
    INGESTED_FILE,
    LABEL_SEPARATOR,
    SPLITS,
    TEXT,
    TRAIN,
)

VECTOR = "vector"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Shards in a folder, and statistics of their rows.

    Attributes that are not listed are those of the plan or of the shards.

    Attributes:
        folder: Folder of the shards; local or a URI.
        encoders: "text" and "audio" -> "vector", if the column has .npy paths. Runs
            with different encoders share the shards of other columns.
        shards: Split -> file names.
        rows: Split -> number of rows.
        labels: Split -> {labels of a row joined by "|": number of rows}.
        absent: Modality -> number of rows without it, in all splits.
        suspicious: Usable rows that a warning is about, and the reason.
        content: Hash of the rows' content, independent of paths and times.
    """

    folder: str | Path
    modalities: tuple[str, ...]
    encoders: dict[str, str]
    widths: dict[str, int]
    shards: dict[str, list[str]]
    rows: dict[str, int]
    labels: dict[str, dict[str, int]]
    absent: dict[str, int]
    image_kinds: tuple[str, ...]
    unreadable: tuple[BadRow, ...]
    rejected: tuple[BadRow, ...]
    warnings: tuple[str, ...]
    suspicious: tuple[BadRow, ...]
    fingerprint: str
    content: str
    split_fingerprint: str

    def files(self, split: str) -> list[str]:
        return [join_path(self.folder, name) for name in self.shards[split]]

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
    for name in ("modalities", "image_kinds", "warnings"):
        content[name] = tuple(content[name])
    return Dataset(folder=folder, **content)


def with_detected_encoders(config: Config, dataset: Dataset) -> Config:
    """Returns the settings with encoder "vector" for columns of .npy paths."""
    for modality, encoder in dataset.encoders.items():
        settings = replace(getattr(config, modality), encoder=encoder)
        config = replace(config, **{modality: settings})
    return config


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
    absent = Counter(dict.fromkeys(plan.modalities, 0))
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
    kinds = {kind for summary in summaries for kind in summary.image_kinds}
    contents = "".join(summary.content for summary in summaries)
    suspicious = suspicious_rows(summaries)
    vectors = [m for m in (TEXT, AUDIO) if getattr(plan.config, m).encoder == VECTOR]
    return {
        "modalities": list(plan.modalities),
        "encoders": dict.fromkeys(vectors, VECTOR),
        "widths": plan.widths,
        "shards": shards,
        "rows": rows,
        "labels": labels,
        "absent": absent,
        "image_kinds": [kind for kind in KINDS if kind in kinds],
        "unreadable": [asdict(row) for row in bad_rows(summaries, "unreadable")],
        "rejected": [asdict(row) for row in rejected],
        "warnings": [
            *plan.warnings,
            *warn_of_columns(plan, summaries),
            *warn_of_suspicious(suspicious, plan.config.table),
            *([] if plan.config.task == REGRESSION else warn_unlearned(labels)),
        ],
        "suspicious": [asdict(row) for rows in suspicious.values() for row in rows],
        "fingerprint": plan.fingerprint,
        "content": hashlib.sha256(contents.encode()).hexdigest(),
        "split_fingerprint": plan.split_fingerprint,
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
        kind = "number" if task == REGRESSION else "class"
        return f"The usable training rows have one {kind} only; training needs two."
    return ""
