"""One shard: its rows read, checked and written; and what was found on the way."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field

import tensorflow as tf

from mmkeras.config import Config
from mmkeras.data.example_reader import ReadRow, RowReader, make_example, read_all
from mmkeras.data.ingest_plan import BadRow, Shard, bad_row
from mmkeras.files import is_remote, join_path, parent_path
from mmkeras.modalities.image.decoding import image_kind
from mmkeras.schema import AUDIO_SILENT, IMAGE, LABEL_SEPARATOR, TEXT

_SHOWN = 20  # pairs in one warning


@dataclass(kw_only=True)
class ShardSummary:
    """What the rows of a shard turned out to be; plain values, as JSON has them.

    Attributes:
        name: Of the shard.
        split: Of its rows.
        rows: Written; 0 where there is no file.
        rejected: Rows left out, and why.
        unreadable: Rows of which a modality counts as missing, and why.
        absent: Modality -> rows without it.
        labels: Labels of a row joined by "|" -> rows.
        picture_kinds: Kinds of pictures that occur, as `decode_image` takes them.
        silent: Lines of rows whose sound is silent throughout.
        digests: Modality -> (line, hash of the content), for the search for twins.
        content: Hash of what the rows hold, wherever and whenever it was written.
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
    digests: dict[str, list] = field(default_factory=dict)
    content: str = ""


def write_shard(
    shard: Shard,
    folder: str,
    reader: RowReader,
    tick: Callable[[], object] = lambda: None,
) -> ShardSummary:
    """Writes every good row of a shard; the file appears whole, by a rename.

    Args:
        shard: Its rows and its name.
        folder: Where `shard.name` is put; local or a URI.
        reader: Reads the rows' media.
        tick: Called after each row.
    """
    found, content = ShardSummary(name=shard.name, split=shard.split), hashlib.sha256()
    path = join_path(folder, shard.name)
    aside = join_path(
        parent_path(path), f".{path.rpartition('/')[2]}.{os.urandom(4).hex()}"
    )
    if not is_remote(folder):
        os.makedirs(parent_path(path), exist_ok=True)
    try:
        with tf.io.TFRecordWriter(aside) as writer:
            for read in read_all(shard.rows, reader, reader.config.table.workers):
                tick()
                if _is_good(read, reader.config, found):
                    example = make_example(read, shard.split)
                    writer.write(example.SerializeToString(deterministic=True))
                    _note(read, found, content)
        found.content = content.hexdigest()
        if found.rows:
            tf.io.gfile.rename(aside, path, overwrite=True)
    finally:
        if tf.io.gfile.exists(aside):
            tf.io.gfile.remove(aside)
    return found


def _is_good(read: ReadRow, config: Config, found: ShardSummary) -> bool:
    """Says whether the row is kept, and notes what is wrong with it."""
    problem = "; ".join(read.broken.values())
    nothing_left = not any(read.data.values())
    if not problem:
        return True
    bad = asdict(bad_row(read.row, problem))
    if config.on_bad_row != "absent" or nothing_left:
        found.rejected.append(bad)
        return False
    found.unreadable.append(bad)
    return True


def _note(read: ReadRow, found: ShardSummary, content) -> None:
    found.rows += 1
    found.labels[LABEL_SEPARATOR.join(read.row.labels)] += 1
    for modality, data in read.data.items():
        found.absent[modality] += not data
    kind = image_kind(read.data.get(IMAGE, b""))
    if kind not in found.image_kinds:
        found.image_kinds.append(kind)
    if read.facts.get(AUDIO_SILENT) == 1.0:
        found.silent.append(read.row.line)
    for modality, digest in read.digest.items():
        if modality != TEXT or len(read.digest) == 1:
            # The same word beside another picture is no twin.
            pairs = found.digests.setdefault(modality, [])
            pairs.append((read.row.line, digest.hex()))
    content.update(repr((read.row.id, read.row.labels, read.digest)).encode())


def bad_rows(summaries: Iterable[ShardSummary], name: str) -> list[BadRow]:
    """Returns the "rejected" or "unreadable" rows of all shards, by line."""
    bad = [BadRow(**row) for found in summaries for row in getattr(found, name)]
    return sorted(bad, key=lambda row: row.line)


def warn_duplicate_content(summaries: Iterable[ShardSummary]) -> list[str]:
    """Warns of the same picture, sound or vector in rows of different splits."""
    first: dict[tuple[str, str], tuple[str, int]] = {}
    twins = []
    for found in summaries:
        for modality, pairs in found.digests.items():
            for line, digest in pairs:
                place = (found.split, line)
                split, before = first.setdefault((modality, digest), place)
                if split != found.split:
                    twins.append((modality, before, split, line, found.split))
    if not twins:
        return []
    shown = [
        f"{modality} of line {a} ({split_a}) and of line {b} ({split_b})"
        for modality, a, split_a, b, split_b in sorted(twins)[:_SHOWN]
    ]
    more = f"; and {len(twins) - _SHOWN} more." if len(twins) > _SHOWN else "."
    return [
        "The same content stands in different splits, so the test is too easy: "
        + "; ".join(shown)
        + more
    ]


def warn_silence(summaries: Iterable[ShardSummary]) -> list[str]:
    """Warns of sounds in which there is nothing to hear."""
    lines = sorted(line for found in summaries for line in found.silent)
    if not lines:
        return []
    which = "One sound is" if len(lines) == 1 else f"{len(lines)} sounds are"
    more = ", ..." if len(lines) > _SHOWN else ""
    return [
        f"{which} silent from start to end: line "
        f"{', '.join(map(str, lines[:_SHOWN]))}{more}."
    ]
