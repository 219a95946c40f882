"""Records of the splits to files, and the search for the same content in two splits."""

from pathlib import Path

import tensorflow as tf

from mmkeras.examples import ReadRow
from mmkeras.schema import SPLITS, TEXT

_SHOWN = 20  # pairs in one warning


class ShardWriter:
    """Writes records of each split to files of a bounded number of rows."""

    def __init__(self, folder: Path, rows_per_shard: int):
        self.folder, self.rows_per_shard = folder, rows_per_shard
        self.rows = dict.fromkeys(SPLITS, 0)
        self.shards: dict[str, list[str]] = {split: [] for split in SPLITS}
        self._open: dict[str, tf.io.TFRecordWriter] = {}

    def write(self, split: str, record: bytes) -> None:
        if self.rows[split] % self.rows_per_shard == 0:
            if split in self._open:
                self._open[split].close()
            name = f"{split}-{len(self.shards[split]):05d}.tfrecord"
            self.shards[split].append(name)
            self._open[split] = tf.io.TFRecordWriter(str(self.folder / name))
        self._open[split].write(record)
        self.rows[split] += 1

    def close(self) -> None:
        for writer in self._open.values():
            writer.close()


class Twins:
    """Finds the same picture, sound or vector in rows of different splits."""

    def __init__(self):
        self._first: dict[tuple[str, bytes], tuple[str, int]] = {}
        self._found: list[tuple[str, int, str, int, str]] = []

    def add(self, split: str, read: ReadRow) -> None:
        contents = read.digest
        if len(contents) > 1:  # the same word beside another picture is no twin
            contents = {m: d for m, d in contents.items() if m != TEXT}
        for modality, digest in contents.items():
            place = (split, read.row.line)
            first = self._first.setdefault((modality, digest), place)
            if first[0] != split:
                self._found.append((modality, first[1], first[0], place[1], split))

    def warnings(self) -> list[str]:
        if not self._found:
            return []
        shown = [
            f"{modality} of line {a} ({split_a}) and of line {b} ({split_b})"
            for modality, a, split_a, b, split_b in sorted(self._found)[:_SHOWN]
        ]
        more = len(self._found) - len(shown)
        return [
            "The same content stands in different splits, so the test is too easy: "
            + "; ".join(shown)
            + (f"; and {more} more." if more else ".")
        ]
