"""What an ingest leaves: shards in a folder, and one file that says what they hold."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmkeras.config import Config
from mmkeras.data.ingest_plan import BadRow, IngestPlan, rejection_message
from mmkeras.data.shards import (
    ShardSummary,
    bad_rows,
    warn_duplicate_content,
    warn_silence,
)
from mmkeras.errors import UserError, format_names
from mmkeras.files import join_path, read_text
from mmkeras.modalities.image.decoding import KINDS
from mmkeras.schema import (
    AUDIO,
    INGESTED_FILE,
    LABEL_SEPARATOR,
    SPLITS,
    TEST,
    TEXT,
    TRAIN,
    VAL,
)

VECTOR = "vector"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Shards and what was found on the way.

    Attributes:
        folder: Where the shards lie; local or a URI.
        modalities: In use, in the order of the branches.
        encoders: "text" and "audio" -> "vector", where the column holds .npy paths.
            Runs with different encoders share what is not such a vector.
        widths: Of precomputed vectors, by modality.
        shards: Split -> file names.
        rows: Split -> number of rows.
        labels: Split -> {labels of a row joined by "|": rows}.
        absent: Modality -> rows without it, in all splits.
        picture_kinds: Kinds of pictures that occur, as `decode_image` takes them.
        unreadable: Rows of which a modality counts as missing, and why.
        rejected: Rows left out, and why.
        warnings: Plain sentences.
        fingerprint: Hash of the table, the settings and each file's size and times.
        content: Hash of what the rows hold, wherever and whenever it was written.
        split_fingerprint: Hash of which row went where.
    """

    folder: str | Path
    modalities: tuple[str, ...]
    encoders: dict[str, str]
    widths: dict[str, int]
    shards: dict[str, list[str]]
    rows: dict[str, int]
    labels: dict[str, dict[str, int]]
    absent: dict[str, int]
    image_kinds: tuple[str, ...]
    unreadable: tuple[BadRow, ...]
    rejected: tuple[BadRow, ...]
    warnings: tuple[str, ...]
    fingerprint: str
    content: str
    split_fingerprint: str

    def files(self, split: str) -> list[str]:
        return [join_path(self.folder, name) for name in self.shards[split]]

    def class_rows(self, split: str) -> Counter:
        """Rows of each class; a row with several labels counts for each."""
        counts = Counter()
        for label, rows in self.labels[split].items():
            for name in label.split(LABEL_SEPARATOR):
                counts[name] += rows
        return counts


def load_dataset(folder: str | Path) -> Dataset:
    """Reads what an earlier ingest found."""
    content = json.loads(read_text(join_path(folder, INGESTED_FILE)))
    for name in ("unreadable", "rejected"):
        content[name] = tuple(BadRow(**bad) for bad in content[name])
    for name in ("modalities", "image_kinds", "warnings"):
        content[name] = tuple(content[name])
    return Dataset(folder=folder, **content)


def with_detected_encoders(config: Config, dataset: Dataset) -> Config:
    """Returns the settings with the encoders that the columns' content asked for."""
    for modality, encoder in dataset.encoders.items():
        if encoder == VECTOR:
            settings = replace(getattr(config, modality), encoder=encoder)
            config = replace(config, **{modality: settings})
    return config


def rejected_csv(rejected: Sequence[BadRow]) -> str:
    """Returns the table of rows that were left out, as CSV."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["line", "id", "problem"])
    writer.writerows([bad.line, bad.id, bad.problem] for bad in rejected)
    return text.getvalue()


def summarize_shards(
    plan: IngestPlan, summaries: Sequence[ShardSummary]
) -> dict[str, Any]:
    """Puts together what was found in all shards, in the order of the plan.

    Returns:
        What the file of the folder holds.

    Raises:
        UserError: There are bad rows and `config.on_bad_row` is "fail", or a split
            or the classes are left empty.
    """
    rejected = [*plan.rejected, *bad_rows(summaries, "rejected")]
    rejected.sort(key=lambda row: row.line)
    if rejected and plan.config.on_bad_row == "fail":
        raise UserError(rejection_message(rejected, plan.rows))
    rows, labels = dict.fromkeys(SPLITS, 0), {split: Counter() for split in SPLITS}
    shards = {split: [] for split in SPLITS}
    absent = Counter(dict.fromkeys(plan.modalities, 0))
    for found in summaries:
        rows[found.split] += found.rows
        labels[found.split].update(found.labels)
        absent.update(found.absent)
        if found.rows:
            shards[found.split].append(found.name)
    _check_what_is_left({shard.split for shard in plan.shards}, rows, labels)
    kinds = {kind for found in summaries for kind in found.image_kinds}
    contents = "".join(found.content for found in summaries)
    encoders = {m: getattr(plan.config, m).encoder for m in (TEXT, AUDIO)}
    encoders = {m: encoder for m, encoder in encoders.items() if encoder == VECTOR}
    warnings = [
        *plan.warnings,
        *warn_duplicate_content(summaries),
        *warn_silence(summaries),
    ]
    return {
        "modalities": list(plan.modalities),
        "encoders": encoders,
        "widths": plan.widths,
        "shards": shards,
        "rows": rows,
        "labels": labels,
        "absent": absent,
        "image_kinds": [kind for kind in KINDS if kind in kinds],
        "unreadable": [asdict(row) for row in bad_rows(summaries, "unreadable")],
        "rejected": [asdict(row) for row in rejected],
        "warnings": [*warnings, *_never_learned(labels)],
        "fingerprint": plan.fingerprint,
        "content": hashlib.sha256(contents.encode()).hexdigest(),
        "split_fingerprint": plan.split_fingerprint,
    }


def _check_what_is_left(splits, rows, labels) -> None:
    """Refuses splits or classes that the bad rows have emptied."""
    empty = [split for split in SPLITS if split in splits and not rows[split]]
    if empty:
        raise UserError(
            f"No usable row is left in {', '.join(empty)}: mend the rejected rows, or "
            "give more rows to these splits."
        )
    if TRAIN in splits and len(_named(labels[TRAIN])) < 2:
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
    return [f"No training row has {format_names(unknown)}, so it cannot be learned."]
