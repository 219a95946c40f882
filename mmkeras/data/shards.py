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
from mmkeras.modalities.text.features import has_word
from mmkeras.schema import AUDIO_SILENT, IMAGE, LABEL_SEPARATOR, TEXT


@dataclass(kw_only=True)
class ShardSummary:
    """Summary of a written shard; JSON-serializable.

    Attributes:
        rows: Number of rows written; without any there is no file.
        unreadable: Rows with a modality that counts as missing, and the reason.
        absent: Modality -> number of rows without it.
        broken: Modality -> number of these in which it cannot be read.
        labels: Labels of a row joined by "|" -> number of rows.
        image_kinds: Kinds of images that occur, as `decode_image` takes them.
        silent: Rows with silent audio.
        wordless: Rows with a text that has no token.
        faulty: Rows with a faulty file that was read whole nevertheless.
        digests: Modality -> (line, id, hash of the content), to find duplicates.
        contents: Modality -> hashes of its contents, at most two.
        content: Hash of the rows' content, independent of paths and times.
    """

    name: str
    split: str
    rows: int = 0
    rejected: list[dict] = field(default_factory=list)
    unreadable: list[dict] = field(default_factory=list)
    absent: dict[str, int] = field(default_factory=Counter)
    broken: dict[str, int] = field(default_factory=Counter)
    labels: dict[str, int] = field(default_factory=Counter)
    image_kinds: list[str] = field(default_factory=list)
    silent: list[dict] = field(default_factory=list)
    wordless: list[dict] = field(default_factory=list)
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
    summary = ShardSummary(name=shard.name, split=shard.split)
    content = hashlib.sha256()
    path = join_path(folder, shard.name)
    with _atomic_file(path) as tmp_path, tf.io.TFRecordWriter(tmp_path) as writer:
        for row in read_all(shard.rows, reader, reader.config.table.workers):
            tick()
            if _is_usable(row, reader.config, summary):
                example = make_example(row, shard.split)
                writer.write(example.SerializeToString(deterministic=True))
                _add_row(row, summary, content, reader.config)
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


def _add_row(row: RowContent, summary: ShardSummary, content, config: Config) -> None:
    summary.rows += 1
    summary.labels[LABEL_SEPARATOR.join(row.row.labels)] += 1
    for modality, data in row.data.items():
        summary.absent[modality] += not data
        summary.broken[modality] += modality in row.broken
    kind = image_kind(row.data.get(IMAGE, b""))
    if kind not in summary.image_kinds:
        summary.image_kinds.append(kind)
    if row.metadata.get(AUDIO_SILENT) == 1.0:
        summary.silent.append(asdict(bad_row(row.row, "audio is silent")))
    summary.faulty += [asdict(bad_row(row.row, note)) for note in row.notes]
    text = row.data.get(TEXT) if config.text.encoder != "vector" else b""
    if text and not has_word(text):
        summary.wordless.append(asdict(bad_row(row.row, "text has no word or emoji")))
    for modality, digest in row.digest.items():
        contents = summary.contents.setdefault(modality, [])
        if len(contents) < 2 and digest.hex() not in contents:
            contents.append(digest.hex())
        if modality != TEXT or len(row.digest) == 1:
            # The same text with another image is no duplicate.
            pairs = summary.digests.setdefault(modality, [])
            pairs.append((row.row.line, row.row.id, digest.hex()))
    content.update(repr((row.row.id, row.row.labels, row.digest)).encode())


def bad_rows(summaries: Iterable[ShardSummary], name: str) -> list[BadRow]:
    """Returns the rows of all shards in the attribute `name`, by line."""
    bad = [BadRow(**row) for summary in summaries for row in getattr(summary, name)]
    return sorted(bad, key=lambda row: row.line)
