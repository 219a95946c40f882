"""Writing of one TFRecord shard, and the summary of its rows."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import tensorflow as tf

from mmkeras.config import Config
from mmkeras.data.example_reader import RowContent, RowReader, make_example, read_all
from mmkeras.data.ingest_plan import BadRow, Shard, bad_row
from mmkeras.files import atomic_path, is_remote, join_path, parent_path
from mmkeras.modalities.column import Column
from mmkeras.schema import LABEL_SEPARATOR


@dataclass(kw_only=True)
class ShardSummary:
    """Summary of a written shard; JSON-serializable.

    Attributes:
        unit: What the lines of rows count, as in `Row`.
        rows: Number of rows written; without any there is no file.
        unreadable: Rows with a column that counts as missing, and the reason.
        absent: Column -> number of rows without it.
        broken: Column -> number of these in which it cannot be read.
        labels: Labels of a row joined by "|" -> number of rows.
        formats: Column -> formats of its files that occur.
        warned: Column -> kind of a warning -> rows that it is about.
        faulty: Rows with a faulty file that was read whole nevertheless.
        digests: Column -> (line, id, hash of the content), to find duplicates.
        contents: Column -> hashes of its contents, at most two.
        content: Hash of the rows' content, independent of paths and times.
    """

    name: str
    split: str
    unit: str = "line"
    rows: int = 0
    rejected: list[dict] = field(default_factory=list)
    unreadable: list[dict] = field(default_factory=list)
    absent: dict[str, int] = field(default_factory=Counter)
    broken: dict[str, int] = field(default_factory=Counter)
    labels: dict[str, int] = field(default_factory=Counter)
    formats: dict[str, list[str]] = field(default_factory=dict)
    warned: dict[str, dict[str, list]] = field(default_factory=dict)
    faulty: list[dict] = field(default_factory=list)
    digests: dict[str, list] = field(default_factory=dict)
    contents: dict[str, list[str]] = field(default_factory=dict)
    content: str = ""


def write_shard(
    shard: Shard,
    folder: str,
    reader: RowReader,
    tick: Callable[[], object] = lambda: None,
) -> ShardSummary:
    """Writes the usable rows of a shard to a local or remote folder, atomically.

    Calls `tick` after each row.
    """
    unit = shard.rows[0].unit if shard.rows else "line"
    summary = ShardSummary(name=shard.name, split=shard.split, unit=unit)
    content = hashlib.sha256()
    path = join_path(folder, shard.name)
    with _atomic_file(path) as tmp_path, tf.io.TFRecordWriter(tmp_path) as writer:
        for row in read_all(shard.rows, reader, reader.config.table.workers):
            tick()
            if _is_usable(row, reader.config, summary):
                example = make_example(row, shard.split)
                writer.write(example.SerializeToString(deterministic=True))
                _add_row(row, summary, content, reader.columns)
    if not summary.rows:
        tf.io.gfile.remove(path)
    summary.content = content.hexdigest()
    return summary


@contextmanager
def _atomic_file(path: str) -> Iterator[str]:
    """Yields a temporary path for a local or remote file, as `atomic_path` does."""
    if not is_remote(path):
        os.makedirs(parent_path(path), exist_ok=True)
        with atomic_path(path) as tmp_path:
            yield str(tmp_path)
        return
    folder, _, name = path.rpartition("/")
    tmp_path = f"{folder}/.{name}.{os.urandom(4).hex()}"
    try:
        yield tmp_path
        tf.io.gfile.rename(tmp_path, path, overwrite=True)
    finally:
        if tf.io.gfile.exists(tmp_path):
            tf.io.gfile.remove(tmp_path)


def _is_usable(row: RowContent, config: Config, summary: ShardSummary) -> bool:
    """Decides on a row, and records its problem."""
    problem = "; ".join(row.broken.values())
    if not problem:
        return True
    bad = asdict(bad_row(row.row, problem))
    if config.on_bad_row != "absent" or not row.contents:
        summary.rejected.append(bad)
        return False
    summary.unreadable.append(bad)
    return True


def _add_row(
    row: RowContent, summary: ShardSummary, content, columns: Mapping[str, Column]
) -> None:
    summary.rows += 1
    summary.labels[LABEL_SEPARATOR.join(row.row.labels)] += 1
    summary.faulty += [asdict(bad_row(row.row, note)) for note in row.notes]
    digests = {}
    for name in row.data:
        summary.absent[name] += name not in row.contents
        summary.broken[name] += name in row.broken
    for name, part in row.contents.items():
        digest = hashlib.blake2b(part.digest, digest_size=12).digest()
        digests[name] = digest
        _add_content(row, name, part, digest.hex(), summary)
        if columns[name].identifies_row or len(row.contents) == 1:
            # The same text with another image is no duplicate.
            pairs = summary.digests.setdefault(name, [])
            pairs.append((row.row.line, row.row.id, digest.hex()))
    content.update(repr((row.row.id, row.row.labels, digests)).encode())


def _add_content(row, name, part, digest, summary) -> None:
    """Adds the properties of a column's content to the summary."""
    formats = summary.formats.setdefault(name, [])
    formats += [kind for kind in part.formats if kind not in formats]
    contents = summary.contents.setdefault(name, [])
    if len(contents) < 2 and digest not in contents:
        contents.append(digest)
    if part.warning:
        rows = summary.warned.setdefault(name, {}).setdefault(part.warning, [])
        rows.append(asdict(bad_row(row.row, f"{name} {part.warning}")))


def bad_rows(summaries: Iterable[ShardSummary], name: str) -> list[BadRow]:
    """Returns the rows of all shards in the attribute `name`, by line."""
    bad = [BadRow(**row) for summary in summaries for row in getattr(summary, name)]
    return sorted(bad, key=lambda row: row.line)
