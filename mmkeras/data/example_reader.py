"""Reader of a row's media: checks and decodes files, and makes the tf.Example."""

import hashlib
import os
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import tensorflow as tf

from mmkeras.config import Config
from mmkeras.data.predictions_csv import unreadable_status
from mmkeras.data.table import Row, iter_rows, model_columns, table_modalities
from mmkeras.errors import UserError, shorten
from mmkeras.modalities.audio.metadata import measure_audio
from mmkeras.modalities.audio.reading import read_audio
from mmkeras.modalities.audio.wav import wav_bytes, wav_format
from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.file import Unreadable, find_file, read_file
from mmkeras.modalities.image.metadata import measure_image
from mmkeras.modalities.image.reading import prepare_image
from mmkeras.modalities.text.metadata import measure_text
from mmkeras.modalities.vector.reading import prepare_vector, vector_width
from mmkeras.schema import (
    AUDIO,
    ID,
    IMAGE,
    LABEL,
    LABEL_SEPARATOR,
    SPLIT,
    STATUS,
    TEXT,
)

_WIDTH_ROWS = 100  # rows that are read for the width of vectors


@dataclass(frozen=True, kw_only=True)
class RowContent:
    """A row of the table and the content of its media.

    Attributes:
        data: Modality -> bytes that the graph decodes; b"" if absent or broken.
        broken: Modality -> reason why it cannot be read.
        digest: Modality -> hash of the content of the file.
        metadata: Feature -> property of a medium, as `metadata.py` measures it.
        notes: Faults of files that are read whole nevertheless.
    """

    row: Row
    data: dict[str, bytes]
    broken: dict[str, str]
    digest: dict[str, bytes]
    metadata: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def status(self) -> str:
        """Status of the unreadable modalities, or ""."""
        return unreadable_status(self.broken)

    @property
    def faults(self) -> list[str]:
        """Notes with the line of the row."""
        return [f"line {self.row.line}: {note}" for note in self.notes]


class RowReader:
    """Thread-safe reader that checks the media of rows."""

    def __init__(self, folder: str | Path, config: Config, widths: dict[str, int]):
        """Sets the base folder of relative paths, and expected widths of vectors."""
        self.folder, self.config, self.widths = folder, config, widths
        self._decoders = MediaDecoders(config)

    def read(self, row: Row) -> RowContent:
        """Reads the media of a row; errors are in `broken`."""
        data, broken, digest, metadata, notes = {}, {}, {}, {}, []
        for modality, cell in row.cells.items():
            data[modality] = b""
            if not cell:
                continue
            try:
                content = self._content(modality, cell)
                data[modality], measured = self._prepare(modality, content, notes)
                metadata |= measured
                digest[modality] = hashlib.blake2b(content, digest_size=12).digest()
            except Unreadable as error:
                broken[modality] = f"{modality} '{shorten(cell, 80)}': {error}"
        return RowContent(
            row=row,
            data=data,
            broken=broken,
            digest=digest,
            metadata=metadata,
            notes=tuple(notes),
        )

    def _content(self, modality, cell):
        if modality == TEXT and self.config.text.encoder != "vector":
            return cell.encode()
        return read_file(find_file(self.folder, cell), self.config.table.max_file_mb)

    def _prepare(self, modality, content, notes):
        """Returns the bytes to store, and the metadata; appends to `notes`."""
        config = self.config
        if modality == IMAGE:
            data = prepare_image(content, config.image)
            self._decoders.pixels(data)  # raises what the served graph would
            return data, measure_image(content)
        if modality == AUDIO and config.audio.encoder != "vector":
            audio = read_audio(content, config.audio)
            notes += audio.notes
            metadata = measure_audio(audio, config.audio.clip_s)
            return self._mono_wave(audio.wav), metadata
        if modality == TEXT and config.text.encoder != "vector":
            return content, measure_text(content)
        data, width = prepare_vector(content), self.widths.get(modality)
        if width and vector_width(data) != width:
            raise Unreadable(f"{vector_width(data)} numbers where others have {width}")
        return data, {}

    def _mono_wave(self, data):
        """Returns a WAV of the right rate unchanged, else converts it to floats."""
        wave = self._decoders.wave(data)
        rate_hz = self.config.audio.rate_hz
        if wav_format(data).rate_hz == rate_hz:
            return data
        return wav_bytes(wave[:, None], 32, rate_hz)


def read_all(
    rows: Iterable[Row], reader: RowReader, workers: int
) -> Iterator[RowContent]:
    """Reads rows in threads (0 is one per core), in order, in bounded memory."""
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        futures = deque()
        for row in rows:
            futures.append(pool.submit(reader.read, row))
            if len(futures) > 4 * workers:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()


def unlabeled_rows(
    table: Path, config: Config, modalities: Sequence[str], widths: dict[str, int]
) -> tuple[RowReader, Iterator[Row]]:
    """Opens a table for a trained model; returns the reader and the rows.

    Prints on stderr which of the model's modalities have no column. Labels are
    optional; `config`, `modalities` and `widths` are the model's.

    Raises:
        UserError: The table has none of the columns, or cannot be read.
    """
    columns = model_columns(config.table, modalities)
    present = table_modalities(table, columns, labeled=False)
    if missing := [m for m in modalities if m not in present]:
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
) -> Iterator[list[RowContent]]:
    """Reads the rows of `unlabeled_rows` in threads, in batches of `rows`."""
    reader, table_rows = unlabeled_rows(table, config, modalities, widths)
    contents = read_all(table_rows, reader, config.table.workers)
    while batch := list(islice(contents, rows)):
        yield batch


def common_widths(
    rows: Sequence[Row], folder: str | Path, config: Config
) -> dict[str, int]:
    """Returns the most common width of precomputed vectors in the first rows.

    Raises:
        UserError: A column of vectors has no readable one in these rows.
    """
    widths = {}
    for modality in (TEXT, AUDIO):
        cells = [row.cells[modality] for row in rows if row.cells.get(modality)]
        if getattr(config, modality).encoder != "vector" or not cells:
            continue
        counts = Counter()
        for cell in cells[:_WIDTH_ROWS]:
            try:
                content = read_file(find_file(folder, cell), config.table.max_file_mb)
                counts[vector_width(prepare_vector(content))] += 1
            except Unreadable as error:  # reported when the row is read
                reason = f"'{shorten(cell, 80)}': {error}"
        if not counts:
            raise UserError(
                f"The {modality} column should hold paths of .npy vectors, and none of "
                f"the first {len(cells[:_WIDTH_ROWS])} can be read ({reason}). Correct "
                "the paths."
            )
        widths[modality] = counts.most_common(1)[0][0]
    return widths


def make_example(row: RowContent, split: str = "") -> tf.train.Example:
    """Returns the tf.Example of a row.

    It has one bytes feature per present modality, id, label and status, the split if
    given, and the metadata of the media as integers or floats.
    """
    values = {m: content for m, content in row.data.items() if content}
    values[ID] = row.row.id.encode()
    values[LABEL] = LABEL_SEPARATOR.join(row.row.labels).encode()
    values[STATUS] = row.status.encode()
    if split:
        values[SPLIT] = split.encode()
    return build_example(values | row.metadata)


def build_example(values: Mapping[str, bytes | int | float]) -> tf.train.Example:
    """Returns a tf.Example with one value per feature."""
    features = {name: _feature(value) for name, value in values.items()}
    return tf.train.Example(features=tf.train.Features(feature=features))


def _feature(value: bytes | int | float) -> tf.train.Feature:
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
