"""Rows -> what the media of a split are like, in bounded size; no Beam in it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from mmkeras.schema import (
    ABSENT,
    AUDIO_CHANNELS,
    AUDIO_CLIPPED,
    AUDIO_RATE,
    AUDIO_SECONDS,
    AUDIO_SILENT,
    IMAGE_CHANNELS,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    LABEL,
    LABEL_SEPARATOR,
    STATUS,
    STATUS_SEPARATOR,
    TEXT_CHARACTERS,
    UNREADABLE,
)
from pipeline.components.quantile_sketch import QuantileSketch, bar_edges

STATISTICS_FILE, PAGE_FILE = "media_statistics.json", "media_statistics.html"
PRESENT = "present"
STATES = (PRESENT, ABSENT, UNREADABLE)
# Facts that are measured, and facts of which each value is counted.
NUMBERS = (TEXT_CHARACTERS, IMAGE_WIDTH, IMAGE_HEIGHT)
NUMBERS += (AUDIO_SECONDS, AUDIO_SILENT, AUDIO_CLIPPED)
SHARES = (AUDIO_SILENT, AUDIO_CLIPPED)
VALUES = (IMAGE_CHANNELS, AUDIO_RATE, AUDIO_CHANNELS)
OTHER = "other"
MAX_VALUES = 1000  # of one fact; all further ones are counted together
# A sound with a larger share of clipped samples is clipped: 1 ms in each second, which
# is heard as crackling. One flat top of three samples in a second may be chance.
CLIPPED_FROM = 0.001


@dataclass(frozen=True)
class RowFacts:
    """What one row tells.

    Attributes:
        states: Modality -> "present", "absent" or "unreadable".
        facts: As `mmkeras/modalities/metadata.py` measured them.
        classes: Those it has.
    """

    states: dict[str, str]
    facts: dict[str, float]
    classes: tuple[str, ...]


def read_row(record: bytes, modalities: Sequence[str]) -> RowFacts:
    """Reads a serialized tf.Example; the media themselves are left behind."""
    features = tf.train.Example.FromString(record).features.feature
    broken = _text(features, STATUS).split(STATUS_SEPARATOR)
    states = {}
    for name in modalities:
        missing = UNREADABLE if f"{name} {UNREADABLE}" in broken else ABSENT
        states[name] = PRESENT if any(_values(features, name)) else missing
    found = {name: _values(features, name) for name in NUMBERS + VALUES}
    labels = _text(features, LABEL).split(LABEL_SEPARATOR)
    return RowFacts(
        states=states,
        facts={name: values[0] for name, values in found.items() if values},
        classes=tuple(name for name in labels if name),
    )


def _values(features, name):
    if name not in features:  # to ask the map for it would put it there
        return ()
    kind = features[name].WhichOneof("kind")
    return getattr(features[name], kind).value if kind else ()


def _text(features, name):
    return b"".join(_values(features, name)).decode("utf-8", "replace")


@dataclass
class MediaTotals:
    """What is known of the rows of a split; those of parts of it merge.

    Attributes:
        rows: How many.
        states: (modality, state) -> rows.
        numbers: Fact -> what its numbers are like.
        values: Fact -> {value: rows}.
        silent: Sounds that are silent throughout.
        clipped: Sounds of which more than `CLIPPED_FROM` is clipped.
    """

    rows: int = 0
    states: Counter = field(default_factory=Counter)
    numbers: dict[str, QuantileSketch] = field(default_factory=dict)
    values: dict[str, Counter] = field(default_factory=dict)
    silent: int = 0
    clipped: int = 0

    def add(self, row: RowFacts) -> None:
        self.rows += 1
        self.states.update(row.states.items())
        for name, value in row.facts.items():
            if name in NUMBERS:
                self.numbers.setdefault(name, QuantileSketch()).add(value)
            else:
                self._count(name, value, 1)
        self.silent += row.facts.get(AUDIO_SILENT) == 1
        self.clipped += row.facts.get(AUDIO_CLIPPED, 0) > CLIPPED_FROM

    def merge(self, other: "MediaTotals") -> None:
        self.rows += other.rows
        self.states.update(other.states)
        for name, sketch in other.numbers.items():
            self.numbers.setdefault(name, QuantileSketch()).merge(sketch)
        for name, counts in other.values.items():
            for value, rows in counts.items():
                self._count(name, value, rows)
        self.silent += other.silent
        self.clipped += other.clipped

    def _count(self, name, value, rows):
        counts = self.values.setdefault(name, Counter())
        is_full = value not in counts and len(counts) >= MAX_VALUES
        counts[OTHER if is_full else value] += rows


def class_counts(row: RowFacts) -> tuple[int, ...]:
    """Returns 1, and for each modality whether the row lacks it; these add up."""
    return 1, *(int(state != PRESENT) for state in row.states.values())


def summarize(
    totals: dict[str, MediaTotals],
    classes: dict[str, tuple[int, list]],
    modalities: Sequence[str],
) -> dict[str, Any]:
    """Returns what goes into media_statistics.json.

    Args:
        totals: By split.
        classes: Split -> how many classes it has, and [(class, class_counts), ...] of
            the largest.
        modalities: In the order of `class_counts`.
    """
    bars = {}
    for name in NUMBERS:  # the same for all splits, so that they can be compared
        whole = QuantileSketch()
        for split in totals.values():
            whole.merge(split.numbers.get(name, QuantileSketch()))
        bars[name] = bar_edges(whole, may_be_log=name not in SHARES)
    return {
        "modalities": list(modalities),
        "clipped_from": CLIPPED_FROM,
        "splits": {
            split: {
                "rows": found.rows,
                "modalities": {
                    m: {s: found.states[m, s] for s in STATES} for m in modalities
                },
                "numbers": {
                    n: _number(found.numbers[n], *bars[n])
                    for n in NUMBERS
                    if n in found.numbers
                },
                "values": {n: _by_value(c) for n, c in found.values.items()},
                "sounds": _sounds(found),
                "classes": _classes(*classes[split], modalities),
            }
            for split, found in totals.items()
        },
    }


def _number(sketch, edges, is_log):
    return {
        "rows": sketch.rows,
        "min": sketch.low,
        "max": sketch.high,
        "mean": sketch.mean,
        "deviation": sketch.deviation,
        "median": sketch.quantile(0.5),
        "p05": sketch.quantile(0.05),
        "p95": sketch.quantile(0.95),
        "histogram": {
            "edges": edges,
            "rows": sketch.counts(edges),
            "is_log": is_log,
        },
    }


def _by_value(counts):
    known = sorted(value for value in counts if value != OTHER)
    return {str(v): counts[v] for v in [*known, *([OTHER] if OTHER in counts else [])]}


def _sounds(found):
    measured = found.numbers.get(AUDIO_SILENT, QuantileSketch()).rows
    if not measured:
        return {}
    return {
        "measured": measured,
        "silent_share": found.silent / measured,
        "clipped_share": found.clipped / measured,
    }


def _classes(number, largest, modalities):
    return {
        "number": number,
        "largest": [
            {
                "name": name,
                "rows": rows,
                "missing": dict(zip(modalities, missing, strict=True)),
            }
            for name, (rows, *missing) in largest
        ],
    }
