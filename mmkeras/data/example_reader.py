"""One row of the table -> a checked tf.Example; the plain program and TFX call it."""

import hashlib
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import tensorflow as tf

from mmkeras.config import Config
from mmkeras.data.table import Row, iter_rows, table_modalities
from mmkeras.errors import UserError
from mmkeras.files import join_path
from mmkeras.modalities.audio.reading import prepare_audio, wave_bytes, wave_rate_hz
from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.file import Unreadable, read_file
from mmkeras.modalities.image.reading import prepare_image
from mmkeras.modalities.metadata import measure_audio, measure_image, measure_text
from mmkeras.modalities.vector.reading import prepare_vector, vector_width
from mmkeras.schema import (
    AUDIO,
    ID,
    IMAGE,
    LABEL,
    LABEL_SEPARATOR,
    SPLIT,
    STATUS,
    STATUS_SEPARATOR,
    TEXT,
    UNREADABLE,
)

_WIDTH_ROWS = 100  # rows that are asked how wide a vector is


@dataclass(frozen=True, kw_only=True)
class ReadRow:
    """A row with its media read.

    Attributes:
        row: As it stood in the table.
        data: Modality -> bytes that the graph decodes; b"" where absent or broken.
        broken: Modality -> why it could not be read.
        digest: Modality -> hash of the content as it stood in the file.
        facts: Feature -> what the media are like, as `media/facts.py` measures it.
    """

    row: Row
    data: dict[str, bytes]
    broken: dict[str, str]
    digest: dict[str, bytes]
    facts: dict[str, float]

    @property
    def status(self) -> str:
        """As the served graph says it of what is unreadable; "" if all is well."""
        return STATUS_SEPARATOR.join(f"{m} {UNREADABLE}" for m in self.broken)


class RowReader:
    """Reads and checks the media of rows, safely from several threads."""

    def __init__(self, folder: str | Path, config: Config, widths: dict[str, int]):
        """Paths in the table are relative to `folder`, the table's own.

        `widths` are those that precomputed vectors must have, by modality.
        """
        self.folder, self.config, self.widths = folder, config, widths
        self._decoders = MediaDecoders(config)

    def read(self, row: Row) -> ReadRow:
        """Reads what the row names; what cannot be read is in `broken`."""
        data, broken, digest, facts = {}, {}, {}, {}
        for modality, cell in row.cells.items():
            data[modality] = b""
            if not cell:
                continue
            try:
                content = self._content(modality, cell)
                data[modality], measured = self._prepare(modality, content)
                facts |= measured
                digest[modality] = hashlib.blake2b(content, digest_size=12).digest()
            except Unreadable as error:
                broken[modality] = f"{modality} '{_shown(cell)}': {error}"
        return ReadRow(row=row, data=data, broken=broken, digest=digest, facts=facts)

    def _content(self, modality, cell):
        if modality == TEXT and self.config.text.encoder != "vector":
            return cell.encode()
        return read_file(join_path(self.folder, cell), self.config.table.max_file_mb)

    def _prepare(self, modality, content):
        """Returns what is stored, and what the content is like."""
        config = self.config
        if modality == IMAGE:
            data = self._checked_image(prepare_image(content, config.image))
            return data, measure_image(content)
        if modality == AUDIO and config.audio.encoder != "vector":
            wave = prepare_audio(content, config.audio)
            facts = measure_audio(content, wave, config.audio.clip_s)
            return self._mono_wave(wave), facts
        if modality == TEXT and config.text.encoder != "vector":
            return content, measure_text(content)
        data, width = prepare_vector(content), self.widths.get(modality)
        if width and vector_width(data) != width:
            raise Unreadable(f"{vector_width(data)} numbers where others have {width}")
        return data, {}

    def _checked_image(self, data):
        """Decodes it as the served graph will: what this lets in, that can read."""
        self._decoders.pixels(data)
        return data

    def _mono_wave(self, data):
        """Keeps a WAV of the right rate as it came; else its wave, as floats."""
        wave = self._decoders.wave(data)
        rate_hz = self.config.audio.rate_hz
        if wave_rate_hz(data) == rate_hz:
            return data
        return wave_bytes(wave[:, None], 32, rate_hz)


def read_all(rows: Iterable[Row], reader: RowReader, workers: int) -> Iterator[ReadRow]:
    """Reads rows in threads, in order, with a bounded number in memory.

    `workers` is the number of threads, 0 for one a core.
    """
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        for row in rows:
            waiting.append(pool.submit(reader.read, row))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def unlabeled_rows(
    table: Path, config: Config, modalities: Sequence[str], widths: dict[str, int]
) -> tuple[RowReader, Iterator[Row]]:
    """Opens a table for a trained model: what reads a row's media, and the rows.

    Says on stderr which of the model's modalities the table has no column for.

    Args:
        table: The CSV file; needs no labels.
        config: Of the model.
        modalities: Of the model.
        widths: Of the model's precomputed vectors.

    Raises:
        UserError: The table has none of the columns, or cannot be read.
    """
    columns = replace(config.table, modalities=",".join(modalities))
    there = table_modalities(table, columns, labeled=False)
    if missing := [m for m in modalities if m not in there]:
        print(
            f"The table has no column for {', '.join(missing)}: absent in every row.",
            file=sys.stderr,
        )
    reader = RowReader(table.parent, config, widths)
    return reader, iter_rows(table, columns, labeled=False)


def read_batches(
    table: Path,
    config: Config,
    modalities: Sequence[str],
    widths: dict[str, int],
    rows: int,
) -> Iterator[list[ReadRow]]:
    """Reads a table as `unlabeled_rows` opens it, in threads, `rows` at a time."""
    reader, of_table = unlabeled_rows(table, config, modalities, widths)
    read = read_all(of_table, reader, config.table.workers)
    while batch := list(islice(read, rows)):
        yield batch


def _shown(cell: str) -> str:
    return cell if len(cell) <= 80 else cell[:77] + "..."


def common_widths(
    rows: Sequence[Row], folder: str | Path, config: Config
) -> dict[str, int]:
    """Returns the width that most precomputed vectors have, of the first rows'.

    Raises:
        UserError: A column of vectors has none that can be read there.
    """
    widths = {}
    for modality in (TEXT, AUDIO):
        cells = [row.cells[modality] for row in rows if row.cells.get(modality)]
        if getattr(config, modality).encoder != "vector" or not cells:
            continue
        found = Counter()
        for cell in cells[:_WIDTH_ROWS]:
            try:
                content = read_file(join_path(folder, cell), config.table.max_file_mb)
                found[vector_width(prepare_vector(content))] += 1
            except Unreadable as error:  # listed with its row when the rows are read
                reason = f"'{_shown(cell)}': {error}"
        if not found:
            raise UserError(
                f"The {modality} column should hold paths of .npy vectors, and none of "
                f"the first {len(cells[:_WIDTH_ROWS])} can be read ({reason})."
            )
        widths[modality] = found.most_common(1)[0][0]
    return widths


def make_example(read: ReadRow, split: str = "") -> tf.train.Example:
    """Makes the tf.Example of a row.

    It has one bytes feature a modality that is there, id, label and status, the split
    where one is given, and what the media are like, as integers or floats.
    """
    values = {m: content for m, content in read.data.items() if content}
    values[ID] = read.row.id.encode()
    values[LABEL] = LABEL_SEPARATOR.join(read.row.labels).encode()
    values[STATUS] = read.status.encode()
    if split:
        values[SPLIT] = split.encode()
    values |= read.facts
    features = {name: _feature(value) for name, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features))


def _feature(value: bytes | int | float) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
