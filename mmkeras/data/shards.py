"""Writing of one TFRecord shard, and the summary of its rows."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import tensorflow as tf

from mmkeras.config import Config
from mmkeras.data.example_reader import RowContent, RowReader, make_example, read_all
from mmkeras.data.ingest_plan import BadRow, Shard, bad_row
from mmkeras.files import atomic_path, is_remote, join_path, parent_path
from mmkeras.modalities.image.decoding import image_kind
from mmkeras.schema import AUDIO_SILENT, IMAGE, LABEL_SEPARATOR, TEXT

_LISTED = 20  # pairs in one warning


@dataclass(kw_only=True)
class ShardSummary:
    """Summary of a written shard; JSON-serializable.

    Attributes:
        rows: Number of rows written; without any there is no file.
        unreadable: Rows with a modality that counts as missing, and the reason.
        absent: Modality -> number of rows without it.
        labels: Labels of a row joined by "|" -> number of rows.
        image_kinds: Kinds of images that occur, as `decode_image` takes them.
        silent: Lines of rows with silent audio.
        notes: (line, fault) of files that are read whole nevertheless.
        digests: Modality -> (line, hash of the content), to find duplicates.
        content: Hash of the rows' content, independent of paths and times.
    """

    name: str
    split: str
    rows: int = 0
    rejected: list[dict] = field(default_factory=list)
    unreadable: list[dict] = field(default_factory=list)
    absent: dict[str, int] = field(default_factory=Counter)
    labels: dict[str, int] = field(default_factory=Counter)
    image_kinds: list[str] = field(default_factory=list)
    silent: list[int] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)
    digests: dict[str, list] = field(default_factory=dict)
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
    summary = ShardSummary(name=shard.name, split=shard.split)
    content = hashlib.sha256()
    path = join_path(folder, shard.name)
    with _atomic_file(path) as tmp_path, tf.io.TFRecordWriter(tmp_path) as writer:
        for row in read_all(shard.rows, reader, reader.config.table.workers):
            tick()
            if _is_usable(row, reader.config, summary):
                example = make_example(row, shard.split)
                writer.write(example.SerializeToString(deterministic=True))
                _add_row(row, summary, content)
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
    if config.on_bad_row != "absent" or not any(row.data.values()):
        summary.rejected.append(bad)
        return False
    summary.unreadable.append(bad)
    return True


def _add_row(row: RowContent, summary: ShardSummary, content) -> None:
    summary.rows += 1
    summary.labels[LABEL_SEPARATOR.join(row.row.labels)] += 1
    for modality, data in row.data.items():
        summary.absent[modality] += not data
    kind = image_kind(row.data.get(IMAGE, b""))
    if kind not in summary.image_kinds:
        summary.image_kinds.append(kind)
    if row.metadata.get(AUDIO_SILENT) == 1.0:
        summary.silent.append(row.row.line)
    summary.notes += [(row.row.line, note) for note in row.notes]
    for modality, digest in row.digest.items():
        if modality != TEXT or len(row.digest) == 1:
            # The same text with another image is no duplicate.
            pairs = summary.digests.setdefault(modality, [])
            pairs.append((row.row.line, digest.hex()))
    content.update(repr((row.row.id, row.row.labels, row.digest)).encode())


def bad_rows(summaries: Iterable[ShardSummary], name: str) -> list[BadRow]:
    """Returns the "rejected" or "unreadable" rows of all shards, by line."""
    bad = [BadRow(**row) for summary in summaries for row in getattr(summary, name)]
    return sorted(bad, key=lambda row: row.line)


def warn_duplicate_content(summaries: Iterable[ShardSummary]) -> list[str]:
    """Warns of the same image, audio or vector in rows of different splits."""
    first: dict[tuple[str, str], tuple[str, int]] = {}
    duplicates = []
    for summary in summaries:
        for modality, pairs in summary.digests.items():
            for line, digest in pairs:
                split, first_line = first.setdefault(
                    (modality, digest), (summary.split, line)
                )
                if split != summary.split:
                    duplicate = (modality, first_line, split, line, summary.split)
                    duplicates.append(duplicate)
    pairs = [
        f"{modality} of line {a} ({split_a}) and of line {b} ({split_b})"
        for modality, a, split_a, b, split_b in sorted(duplicates)[:_LISTED]
    ]
    if len(duplicates) > _LISTED:
        pairs.append(f"and {len(duplicates) - _LISTED} more")
    text = "The same content is in different splits, so the test is too easy: "
    return [f"{text}{'; '.join(pairs)}."] if pairs else []


def warn_silence(summaries: Iterable[ShardSummary]) -> list[str]:
    """Warns of audio without any signal."""
    lines = sorted(line for summary in summaries for line in summary.silent)
    if not lines:
        return []
    which = f"{len(lines)} audio files are" if len(lines) > 1 else "One audio file is"
    more = ", ..." if len(lines) > _LISTED else ""
    return [
        f"{which} silent from start to end: line "
        f"{', '.join(map(str, lines[:_LISTED]))}{more}."
    ]


def warn_faults(summaries: Iterable[ShardSummary]) -> list[str]:
    """Warns of faulty files that are read whole nevertheless."""
    notes = sorted(tuple(note) for summary in summaries for note in summary.notes)
    if not notes:
        return []
    listed = [f"line {line}: {note}" for line, note in notes[:_LISTED]]
    if len(notes) > _LISTED:
        listed.append(f"and {len(notes) - _LISTED} more")
    return [f"Files with faults were read whole: {'; '.join(listed)}."]
