"""A table -> TFRecord shards, checked, in parallel, kept by content: the one way in."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mmkeras.config import Config
from mmkeras.errors import UserError
from mmkeras.examples import ReadRow, RowReader, common_widths, make_example
from mmkeras.preprocess.image import KINDS, picture_kind
from mmkeras.schema import (
    AUDIO,
    IMAGE,
    LABEL_SEPARATOR,
    SPLITS,
    TEST,
    TEXT,
    TRAIN,
    VAL,
)
from mmkeras.shards import ShardWriter, Twins
from mmkeras.splits import assign_splits, check_labels
from mmkeras.table import Row, listed, read_rows, table_modalities

# Goes up whenever the same rows would become other records or another analysis.
FORMAT = 4
_LISTED = 20  # rows in one message
_INGESTED_FILE, _LOCK_FILE, _PARTIAL = "ingested.json", ".lock", ".partial-"


@dataclass(frozen=True, kw_only=True)
class BadRow:
    """A row that is not as it should be, and why."""

    line: int
    id: str
    problem: str


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """Shards on disk and what was found on the way.

    Attributes:
        folder: Where the shards lie.
        modalities: In use, in the order of the branches.
        encoders: "text" and "audio" -> the encoder, "vector" where the column holds
            .npy paths.
        widths: Of precomputed vectors, by modality.
        shards: Split -> file names.
        rows: Split -> number of rows.
        labels: Split -> {labels of a row joined by "|": rows}.
        absent: Modality -> rows without it, in all splits.
        picture_kinds: Kinds of pictures that occur, as `decode_image` takes them.
        unreadable: Rows of which a modality counts as missing, and why.
        rejected: Rows left out, and why.
        warnings: Plain sentences.
        fingerprint: Hash of the table, the settings and each file's size and times;
            also the folder's name.
        content: Hash of what the rows hold, wherever and whenever it was written.
        split_fingerprint: Hash of which row went where.
    """

    folder: Path
    modalities: tuple[str, ...]
    encoders: dict[str, str]
    widths: dict[str, int]
    shards: dict[str, list[str]]
    rows: dict[str, int]
    labels: dict[str, dict[str, int]]
    absent: dict[str, int]
    picture_kinds: tuple[str, ...]
    unreadable: tuple[BadRow, ...]
    rejected: tuple[BadRow, ...]
    warnings: tuple[str, ...]
    fingerprint: str
    content: str
    split_fingerprint: str

    def files(self, split: str) -> list[str]:
        return [str(self.folder / name) for name in self.shards[split]]

    def class_rows(self, split: str) -> Counter:
        """Rows of each class; a row with several labels counts for each."""
        counts = Counter()
        for label, rows in self.labels[split].items():
            for name in label.split(LABEL_SEPARATOR):
                counts[name] += rows
        return counts


def resolve_encoders(rows: Sequence[Row], config: Config) -> Config:
    """Takes a column for vectors when each of its cells is the path of a .npy file."""
    for modality in (TEXT, AUDIO):
        cells = [row.cells.get(modality) for row in rows]
        cells = [cell for cell in cells if cell]
        if cells and all(cell.endswith(".npy") for cell in cells):
            settings = replace(getattr(config, modality), encoder="vector")
            config = replace(config, **{modality: settings})
    return config


def default_cache_dir() -> Path:
    """Returns ~/.cache/mmkeras, or where XDG_CACHE_HOME puts it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mmkeras"


def cache_dir(config: Config) -> Path:
    """Returns the folder of ingested tables and computed features."""
    return Path(config.table.cache_dir or default_cache_dir())


def ingest(
    table: Path,
    config: Config,
    *,
    only: str | None = None,
    widths: dict[str, int] | None = None,
) -> Ingested:
    """Reads and checks every row and writes shards, or finds them in the cache.

    Args:
        table: The CSV file.
        config: Columns, checks and what to do about bad rows.
        only: To evaluate a table: the rows of this split (all, where the table has
            none) become the test rows, and nothing is asked of their classes.
        widths: Then, of the model's precomputed vectors; encoders are the model's too.

    Raises:
        UserError: The table cannot be used, or has bad rows and
            `config.on_bad_row` is "fail".
    """
    table = Path(table)
    modalities = table_modalities(table, config.table)
    all_rows = read_rows(table, config.table)
    rows = [row for row in all_rows if not row.problem]
    rejected = [_bad(row, row.problem) for row in all_rows if row.problem]
    if rejected and not rows:
        raise UserError(_refusal(rejected, len(all_rows)))
    if only:
        rows = [row for row in rows if row.split in (only, "")]
        warnings, splits = [], [TEST] * len(rows)
        if not rows:
            raise UserError(f"'{table}' has no row of the split {only}.")
    else:
        try:
            warnings = check_labels(rows)
            splits = assign_splits(rows, config.table, config.seed)
        except UserError as error:
            if not rejected:
                raise
            raise UserError(f"{error}\n{_refusal(rejected, len(all_rows))}") from None
    config = config if only else resolve_encoders(rows, config)
    widths = widths or common_widths(rows, table.parent, config)
    key = _fingerprint(table, rows, splits, widths, config)
    folder = cache_dir(config) / f"table-{key}"
    if not (folder / _INGESTED_FILE).exists():
        found = {"modalities": modalities, "warnings": warnings, "fingerprint": key}
        found["widths"] = widths
        _write(folder, table.parent, rows, splits, rejected, found, config)
    return load_ingested(folder)


def resolved(config: Config, ingested: Ingested) -> Config:
    """Returns the settings with the encoders that the columns' content asked for."""
    text = replace(config.text, encoder=ingested.encoders[TEXT])
    audio = replace(config.audio, encoder=ingested.encoders[AUDIO])
    return replace(config, text=text, audio=audio)


def load_ingested(folder: Path) -> Ingested:
    """Reads what an earlier ingest found."""
    content = json.loads((folder / _INGESTED_FILE).read_text(encoding="utf-8"))
    for name in ("unreadable", "rejected"):
        content[name] = tuple(BadRow(**bad) for bad in content[name])
    for name in ("modalities", "picture_kinds", "warnings"):
        content[name] = tuple(content[name])
    return Ingested(folder=folder, **content)


def _bad(row: Row, problem: str) -> BadRow:
    return BadRow(line=row.line, id=row.id, problem=problem)


def _refusal(bad: Sequence[BadRow], total: int) -> str:
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


def _fingerprint(table, rows, splits, widths, config: Config) -> str:
    """Hashes all that the records depend on; files by size and times of change."""
    digest = hashlib.sha256(table.read_bytes())
    settings = {
        "format": FORMAT,
        "folder": str(table.parent.resolve()),
        "on_bad_row": config.on_bad_row,
        "table": asdict(replace(config.table, workers=0, cache_dir="")),
        "encoders": [config.text.encoder, config.audio.encoder, widths],
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
                digest.update(_stamp(table.parent / cell))
    return digest.hexdigest()[:24]


def _stamp(path: Path) -> bytes:
    try:
        s = os.stat(path)
    except (OSError, ValueError):  # said when the row is read
        return b"none"
    return f"{s.st_size},{s.st_mtime_ns},{s.st_ctime_ns},{s.st_ino}".encode()


def read_all(rows: Iterable[Row], reader: RowReader, workers: int) -> Iterator[ReadRow]:
    """Reads rows in threads, in order, with a bounded number in memory."""
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        for row in rows:
            waiting.append(pool.submit(reader.read, row))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _write(folder, source, rows, splits, rejected, found, config):
    """Writes the shards aside; the finished folder appears by one rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(folder.parent)
    aside = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=folder.parent))
    lock = (aside / _LOCK_FILE).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # let go when this process ends, however it ends
    try:
        order = _order(splits)
        rows = [rows[i] for i in order]
        splits = [splits[i] for i in order]
        writer = ShardWriter(aside, config.table.rows_per_shard)
        reader = RowReader(source, config, found["widths"])
        written = _write_rows(writer, rows, splits, reader, config)
        bad = rejected + written.pop("rejected")
        if bad and config.on_bad_row == "fail":
            raise UserError(_refusal(bad, len(rows) + len(rejected)))
        _check_what_is_left(set(splits), written, writer)
        content = {
            **found,
            **written,
            "encoders": {TEXT: config.text.encoder, AUDIO: config.audio.encoder},
            "shards": writer.shards,
            "rows": writer.rows,
            "rejected": [asdict(b) for b in sorted(bad, key=lambda b: b.line)],
            "warnings": [
                *found["warnings"],
                *written["warnings"],
                *_never_learned(written["labels"]),
            ],
            "split_fingerprint": _split_fingerprint(rows, splits),
        }
        text = json.dumps(content, ensure_ascii=False)
        (aside / _INGESTED_FILE).write_text(text, encoding="utf-8")
        _appear(aside, folder)
    finally:
        lock.close()
        shutil.rmtree(aside, ignore_errors=True)


def _order(splits) -> list[int]:
    """Training rows in a fixed random order, the others behind as in the table.

    A table sorted by label must not become batches of one label.
    """
    train = [i for i, split in enumerate(splits) if split == TRAIN]
    others = [i for i, split in enumerate(splits) if split != TRAIN]
    return [*np.random.default_rng(0).permutation(train).astype(int), *others]


def _write_rows(writer, rows, splits, reader, config) -> dict[str, Any]:
    """Writes every good row; returns what was found of the others."""
    rejected, unreadable, absent = [], [], Counter()
    labels = {split: Counter() for split in SPLITS}
    kinds, twins, content = set(), Twins(), hashlib.sha256()
    reading = read_all(rows, reader, config.table.workers)
    progress = tqdm(reading, "Checking rows", len(rows), unit="row", disable=None)
    for split, read in zip(splits, progress, strict=True):
        problem = "; ".join(read.broken.values())
        nothing_left = not any(read.data.values())
        if problem and (config.on_bad_row != "absent" or nothing_left):
            rejected.append(_bad(read.row, problem))
            continue
        if problem:
            unreadable.append(_bad(read.row, problem))
        writer.write(split, make_example(read).SerializeToString())
        labels[split][LABEL_SEPARATOR.join(read.row.labels)] += 1
        absent.update(m for m, content in read.data.items() if not content)
        kinds.add(picture_kind(read.data.get(IMAGE, b"")))
        twins.add(split, read)
        content.update(repr((read.row.id, read.row.labels, read.digest)).encode())
    writer.close()
    return {
        "rejected": rejected,
        "unreadable": [asdict(b) for b in sorted(unreadable, key=lambda b: b.line)],
        "absent": {m: absent[m] for m in rows[0].cells},
        "picture_kinds": [kind for kind in KINDS if kind in kinds],
        "content": content.hexdigest(),
        "labels": labels,
        "warnings": twins.warnings(),
    }


def _check_what_is_left(splits, found, writer):
    """Refuses splits or classes that the bad rows have emptied."""
    empty = [split for split in SPLITS if split in splits and not writer.rows[split]]
    if empty:
        raise UserError(
            f"No usable row is left in {', '.join(empty)}: mend the rejected rows, or "
            "give more rows to these splits."
        )
    classes = {
        name
        for label in found["labels"][TRAIN]
        for name in label.split(LABEL_SEPARATOR)
    }
    if TRAIN in splits and len(classes) < 2:
        raise UserError(
            "The usable training rows have one class only; training needs at least two."
        )


def _named(labels) -> set[str]:
    """Returns the classes in an iterable of labels of rows."""
    return {name for label in labels for name in label.split(LABEL_SEPARATOR)}


def _never_learned(labels) -> list[str]:
    """Warns of classes that no training row has."""
    named = {split: _named(rows) for split, rows in labels.items()}
    if not named[TRAIN]:  # a table to evaluate has no training rows
        return []
    unknown = sorted((named[VAL] | named[TEST]) - named[TRAIN])
    if not unknown:
        return []
    return [f"No training row has {listed(unknown)}, so it cannot be learned."]


def _split_fingerprint(rows, splits) -> str:
    pairs = sorted((row.id, split) for row, split in zip(rows, splits, strict=True))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:24]


def _appear(aside: Path, folder: Path) -> None:
    try:
        os.rename(aside, folder)
    except OSError:
        if not (folder / _INGESTED_FILE).exists():  # no other run was faster
            raise


def _remove_left_over(parent: Path) -> None:
    """Removes what killed runs left behind: folders whose lock nobody holds."""
    for path in parent.glob(f"{_PARTIAL}*"):
        try:
            with (path / _LOCK_FILE).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # another run is at work in it, or has just made it
            continue
