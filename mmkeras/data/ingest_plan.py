"""Plan of an ingest: checks of the table, and the shard of each row."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mmkeras import files
from mmkeras.config import Config
from mmkeras.data.columns import find_columns
from mmkeras.data.splits import assign_splits, check_labels
from mmkeras.data.table import Row, read_rows
from mmkeras.data.tables import open_table
from mmkeras.data.targets import LABEL_KINDS, read_labeled_rows, stratify
from mmkeras.errors import UserError
from mmkeras.modalities.columns import build_columns
from mmkeras.modalities.file import find_file
from mmkeras.modalities.items import split_cell
from mmkeras.modalities.preprocessing_state import GENERATE, REGRESSION
from mmkeras.schema import SPLITS, TEST, TRAIN

# Cache version. Increment when records or statistics change for the same input.
FORMAT = 9
_LISTED = 20  # rows in one message


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that cannot be used, and the reason."""

    line: int
    id: str
    problem: str
    unit: str = "line"  # or "row", as in `Row`

    @property
    def place(self) -> str:
        return f"{self.unit} {self.line}"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Rows of one file; `name` is its path in the folder of the shards, as for TFX."""

    name: str
    split: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class IngestPlan:
    """Shards of usable rows, and properties of the table.

    Attributes:
        folder: Base of relative paths in the table; local or a URI.
        config: Settings, with the columns of the table.
        rejected: Rows already left out, and the reason.
        rows: Number of rows, rejected ones included.
        fingerprint: Hash of the table, the settings and each file's size and times.
        split_fingerprint: Hash of the split of each row.
    """

    folder: str
    config: Config
    shards: tuple[Shard, ...]
    rejected: tuple[BadRow, ...]
    rows: int
    warnings: tuple[str, ...]
    fingerprint: str
    split_fingerprint: str

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order of the branches."""
        return tuple(self.config.columns)


def plan_ingest(
    table: str | Path,
    config: Config,
    *,
    only: str | None = None,
    labeled: bool = True,
    has_columns: bool = False,
) -> IngestPlan:
    """Reads and checks the table, without its media, and divides the rows.

    Args:
        table: Table of any format, local or a URI.
        config: Columns, checks and the handling of bad rows.
        only: For evaluation, with the settings of a trained model: rows of this split
            (all, if the table has no split) become the test rows, and their classes
            are not checked.
        labeled: Whether rows need a label; if not, `only` is required.
        has_columns: Whether `config` is a result of `find_columns` for this table.

    Raises:
        UserError: The table cannot be used.
    """
    if only:  # folds belong to the training table
        config = replace(config, table=replace(config.table, folds=0, fold=0))
    if not (has_columns or only and config.columns):
        config, _ = find_columns(table, config)
    source = open_table(table, cache_dir=config.table.cache_dir or None)
    columns = [column.name for column in build_columns(config)]
    if labeled:
        all_rows = read_labeled_rows(table, config, columns)
    else:
        all_rows = read_rows(table, config.table, columns, labeled=False)
    rows = [row for row in all_rows if not row.problem]
    rejected = [bad_row(row, row.problem) for row in all_rows if row.problem]
    if rejected and not rows:
        raise UserError(rejection_message(rejected, len(all_rows)))
    warnings = []
    if only:
        rows = [row for row in rows if row.split in (only, "") or not labeled]
        splits = [TEST] * len(rows)
        if not rows:
            raise UserError(
                f"'{source.name}' has no row of the split {only}. Give another split."
            )
    else:
        warnings, splits = _assign_splits(rows, rejected, all_rows, config)
    return IngestPlan(
        folder=source.folder,
        config=config,
        shards=_shards(rows, splits, config.table.rows_per_shard),
        rejected=tuple(rejected),
        rows=len(rows) + len(rejected),
        warnings=tuple(warnings),
        fingerprint=_fingerprint(source, rows, splits, config),
        split_fingerprint=_split_fingerprint(rows, splits),
    )


def _assign_splits(rows, rejected, all_rows, config):
    if _count_classes(rows) < 2 <= _count_classes(all_rows):
        # The label column is as it should be.
        kind = LABEL_KINDS.get(config.task, "class")
        raise UserError(
            f"The usable rows have one {kind} only; training needs two. Correct these "
            f"rows:\n{_list_rows(rejected)}"
        )
    try:
        warnings = check_labels(rows, config.task, config.table.label_names)
        strata = stratify(rows, config.task)
        return warnings, assign_splits(strata, config.table, config.seed)
    except UserError as error:
        if not rejected:
            raise
        bad = rejection_message(rejected, len(all_rows))
        raise UserError(f"{error}\n{bad}") from None


def _count_classes(rows) -> int:
    return len({label for row in rows for label in row.labels})


def bad_row(row: Row, problem: str) -> BadRow:
    return BadRow(line=row.line, id=row.id, problem=problem, unit=row.unit)


def rejection_message(bad: Sequence[BadRow], total: int) -> str:
    """Returns a message that lists bad rows and the remedies."""
    return (
        f"{len(bad)} of {total} rows cannot be used:\n{_list_rows(bad)}\n"
        "Correct them, or continue with --on-bad-row reject (without these rows) "
        "or --on-bad-row absent (an unreadable cell counts as missing)."
    )


def _list_rows(bad):
    bad = sorted(bad, key=lambda b: b.line)
    lines = [f"  {b.place} (id {b.id}): {b.problem}" for b in bad[:_LISTED]]
    if len(bad) > _LISTED:
        lines.append(f"  ... and {len(bad) - _LISTED} more")
    return "\n".join(lines)


def _shards(rows, splits, rows_per_shard) -> tuple[Shard, ...]:
    """Returns shards: training rows in a fixed random order, others as in the table.

    A table sorted by label must not give batches of one label.
    """
    shards = []
    for split in SPLITS:
        indices = [i for i, other in enumerate(splits) if other == split]
        if split == TRAIN:
            indices = np.random.default_rng(0).permutation(indices).astype(int)
        for start in range(0, len(indices), rows_per_shard):
            name = f"Split-{split}/{start // rows_per_shard:05d}.tfrecord"
            of_shard = indices[start : start + rows_per_shard]
            shard_rows = tuple(rows[i] for i in of_shard)
            shards.append(Shard(name=name, split=split, rows=shard_rows))
    return tuple(shards)


def _fingerprint(table, rows, splits, config: Config) -> str:
    """Hashes all inputs of the records; files by size and times of change.

    Objects behind URIs are assumed not to change: new content has a new name.
    """
    digest = hashlib.sha256(table.fingerprint().encode())
    folder = table.folder
    columns = build_columns(config)
    settings = {
        "format": FORMAT,
        "folder": folder if files.is_remote(folder) else str(Path(folder).resolve()),
        "on_bad_row": config.on_bad_row,
        "regression": config.task == REGRESSION,
        **({"references": True} if config.task == GENERATE else {}),
        "table": asdict(replace(config.table, workers=0, cache_dir="")),
        "columns": {c.name: [c.read_key(), getattr(c, "items", 1)] for c in columns},
        "rows": [(row.line, split) for row, split in zip(rows, splits, strict=True)],
    }
    digest.update(json.dumps(settings).encode())
    names = [column.name for column in columns if column.has_files]
    for row in rows:
        for cell in filter(_may_name_files, map(row.cells.get, names)):
            for item in split_cell(cell, folder):
                if isinstance(item, str):  # else the table has the content
                    digest.update(_stamp(find_file(folder, item)))
    return digest.hexdigest()[:24]


def _may_name_files(cell) -> bool:
    """Whether a cell is present, and no list of numbers, which is slow to parse."""
    is_list = isinstance(cell, str) and cell.startswith("[")
    return bool(cell) and not (is_list and '"' not in cell and "'" not in cell)


def _stamp(path: str) -> bytes:
    if files.is_remote(path):
        return path.encode()
    try:
        s = os.stat(path)
    except (OSError, ValueError):  # reported when the row is read
        return b"none"
    return f"{s.st_size},{s.st_mtime_ns},{s.st_ctime_ns},{s.st_ino}".encode()


def _split_fingerprint(rows, splits) -> str:
    pairs = sorted((row.id, split) for row, split in zip(rows, splits, strict=True))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:24]
