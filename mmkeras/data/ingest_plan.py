"""Which row goes to which shard: all that is decided before media are read."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mmkeras import files
from mmkeras.config import Config
from mmkeras.data.example_reader import common_widths
from mmkeras.data.splits import assign_splits, check_labels
from mmkeras.data.table import Row, read_rows, table_modalities
from mmkeras.errors import UserError
from mmkeras.schema import AUDIO, IMAGE, SPLITS, TEST, TEXT, TRAIN

# Goes up whenever the same rows would become other records or another analysis.
FORMAT = 6
_LISTED = 20  # rows in one message


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that is not as it should be, and why."""

    line: int
    id: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Rows that go to one file.

    Attributes:
        name: Path of the file below the folder of the shards, as TFX lays them out.
        split: Which its rows are of.
        rows: In the order of the records.
    """

    name: str
    split: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class IngestPlan:
    """Rows without problem, in shards, and what is known of the table.

    Attributes:
        folder: What paths in the table are relative to; local or a URI.
        config: The settings, with the encoders that the columns ask for.
        modalities: In use, in the order of the branches.
        widths: Of precomputed vectors, by modality.
        shards: In the order of the records.
        rejected: Rows left out already, and why.
        rows: Number of rows that are used, and of the rejected ones.
        warnings: Plain sentences.
        fingerprint: Hash of the table, the settings and each file's size and times.
        split_fingerprint: Hash of which row goes where.
    """

    folder: str
    config: Config
    modalities: tuple[str, ...]
    widths: dict[str, int]
    shards: tuple[Shard, ...]
    rejected: tuple[BadRow, ...]
    rows: int
    warnings: tuple[str, ...]
    fingerprint: str
    split_fingerprint: str


def plan_ingest(
    table: str | Path,
    config: Config,
    *,
    only: str | None = None,
    widths: dict[str, int] | None = None,
    labeled: bool = True,
) -> IngestPlan:
    """Reads the table, checks what needs no media, and divides the rows.

    Args:
        table: The CSV file, local or a URI.
        config: Columns, checks and what to do about bad rows.
        only: To evaluate a table: the rows of this split (all, where the table has
            none) become the test rows, and nothing is asked of their classes.
        widths: Then, of the model's precomputed vectors; encoders are the model's too.
        labeled: Whether rows need a label; without, `only` is needed.

    Raises:
        UserError: The table cannot be used.
    """
    if only:  # a fold is one of the table that was trained on
        config = replace(config, table=replace(config.table, folds=0, fold=0))
    folder = files.parent_path(table)
    modalities = table_modalities(table, config.table, labeled=labeled)
    all_rows = read_rows(table, config.table, labeled=labeled)
    rows = [row for row in all_rows if not row.problem]
    rejected = [bad_row(row, row.problem) for row in all_rows if row.problem]
    if rejected and not rows:
        raise UserError(rejection_message(rejected, len(all_rows)))
    warnings = []
    if only:
        rows = [row for row in rows if row.split in (only, "") or not labeled]
        splits = [TEST] * len(rows)
        if not rows:
            raise UserError(f"'{table}' has no row of the split {only}.")
    else:
        warnings, splits = _divided(rows, rejected, len(all_rows), config)
        config = resolve_encoders(rows, config)
    widths = widths or common_widths(rows, folder, config)
    return IngestPlan(
        folder=folder,
        config=config,
        modalities=modalities,
        widths=widths,
        shards=_shards(rows, splits, config.table.rows_per_shard),
        rejected=tuple(rejected),
        rows=len(rows) + len(rejected),
        warnings=tuple(warnings),
        fingerprint=_fingerprint(table, rows, splits, widths, config),
        split_fingerprint=_split_fingerprint(rows, splits),
    )


def _divided(rows, rejected, total, config):
    try:
        warnings = check_labels(rows)
        return warnings, assign_splits(rows, config.table, config.seed)
    except UserError as error:
        if not rejected:
            raise
        raise UserError(f"{error}\n{rejection_message(rejected, total)}") from None


def resolve_encoders(rows: Sequence[Row], config: Config) -> Config:
    """Takes a column for vectors when each of its cells is the path of a .npy file."""
    for modality in (TEXT, AUDIO):
        cells = [row.cells.get(modality) for row in rows]
        cells = [cell for cell in cells if cell]
        if cells and all(cell.endswith(".npy") for cell in cells):
            settings = replace(getattr(config, modality), encoder="vector")
            config = replace(config, **{modality: settings})
    return config


def bad_row(row: Row, problem: str) -> BadRow:
    return BadRow(line=row.line, id=row.id, problem=problem)


def rejection_message(bad: Sequence[BadRow], total: int) -> str:
    """Returns the message that lists bad rows and says what can be done."""
    bad = sorted(bad, key=lambda b: b.line)
    lines = [f"  line {b.line} (id {b.id}): {b.problem}" for b in bad[:_LISTED]]
    if len(bad) > _LISTED:
        lines.append(f"  ... and {len(bad) - _LISTED} more")
    return "\n".join(
        [
            f"{len(bad)} of {total} rows cannot be used:",
            *lines,
            "Mend them, or go on with --on-bad-row reject (without these rows) or "
            "--on-bad-row absent (an unreadable cell counts as missing).",
        ]
    )


def _shards(rows, splits, rows_per_shard) -> tuple[Shard, ...]:
    """Training rows in a fixed random order, the others as in the table.

    A table sorted by label must not become batches of one label.
    """
    shards = []
    for split in SPLITS:
        places = [i for i, other in enumerate(splits) if other == split]
        if split == TRAIN:
            places = np.random.default_rng(0).permutation(places).astype(int)
        for start in range(0, len(places), rows_per_shard):
            shards.append(
                Shard(
                    name=f"Split-{split}/{start // rows_per_shard:05d}.tfrecord",
                    split=split,
                    rows=tuple(rows[i] for i in places[start : start + rows_per_shard]),
                )
            )
    return tuple(shards)


def _fingerprint(table, rows, splits, widths, config: Config) -> str:
    """Hashes all that the records depend on; files by size and times of change.

    Objects behind URIs are taken not to change: a new content has a new name.
    """
    remote = files.is_remote(table)
    content = files.read_remote(table) if remote else Path(table).read_bytes()
    digest = hashlib.sha256(content)
    folder = files.parent_path(table)
    settings = {
        "format": FORMAT,
        "folder": folder if remote else str(Path(folder).resolve()),
        "on_bad_row": config.on_bad_row,
        "table": asdict(replace(config.table, workers=0, cache_dir="")),
        "vectors": [b.encoder == "vector" for b in (config.text, config.audio)],
        "widths": widths,
        "audio": [config.audio.rate_hz, config.audio.clip_s],
        "image": [config.image.max_megapixels, config.image.size_px],
        "rows": [(row.line, split) for row, split in zip(rows, splits, strict=True)],
    }
    digest.update(json.dumps(settings).encode())
    paths = [m for m in (IMAGE, AUDIO) if rows and m in rows[0].cells]
    if config.text.encoder == "vector":
        paths.append(TEXT)
    for row in rows:
        for modality in paths:
            if cell := row.cells[modality]:
                digest.update(_stamp(files.join_path(folder, cell)))
    return digest.hexdigest()[:24]


def _stamp(path: str) -> bytes:
    if files.is_remote(path):
        return path.encode()
    try:
        s = os.stat(path)
    except (OSError, ValueError):  # said when the row is read
        return b"none"
    return f"{s.st_size},{s.st_mtime_ns},{s.st_ctime_ns},{s.st_ino}".encode()


def _split_fingerprint(rows, splits) -> str:
    pairs = sorted((row.id, split) for row, split in zip(rows, splits, strict=True))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:24]
