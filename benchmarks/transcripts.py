"""Tables of voices and images with what they say or show as text.

    python -m benchmarks.transcripts SOURCE FOLDER
    python -m mmkeras.train --task generate --data FOLDER/digits.csv

SOURCE contains digits/fsdd/ and words/data.csv, as published. The tables are digits.csv
(voice to the digit's name; the speaker yweweler is for test, takes 0 to 4 of the others
for validation), voices.csv (voice to a word) and pictures.csv (image to a word), the
last two with the splits of the words, none of which is in two splits.
"""

import argparse
import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.digits import TEST_SPEAKER, VAL_TAKES
from mmkeras.cli import run_program
from mmkeras.files import atomic_csv

NAMES = "zero one two three four five six seven eight nine".split()


def list_digits(folder: Path) -> list[tuple[str, str, str]]:
    """Returns (path, name of the digit, split) of each recording."""
    rows = []
    for path in sorted(folder.resolve().glob("*.wav")):
        digit, speaker, take = re.fullmatch(r"(\d)_(\w+)_(\d+)", path.stem).groups()
        split = "val" if int(take) in VAL_TAKES else "train"
        split = "test" if speaker == TEST_SPEAKER else split
        rows.append((str(path), NAMES[int(digit)], split))
    return rows


def list_words(table: Path, column: str) -> list[tuple[str, str, str]]:
    """Returns (path of a column, word, split) of the rows that have both."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        (str((table.parent / row[column]).resolve()), row["text"], row["split"])
        for row in rows
        if row[column] and row["text"]
    ]


def write_table(path: Path, column: str, rows: Iterable[Sequence[str]]) -> None:
    with atomic_csv(path) as writer:
        writer.writerow((column, "label", "split"))
        writer.writerows(rows)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parsed = parser.parse_args(argv)
    parsed.folder.mkdir(parents=True, exist_ok=True)
    words = parsed.source / "words" / "data.csv"
    digits = list_digits(parsed.source / "digits" / "fsdd")
    write_table(parsed.folder / "digits.csv", "audio", digits)
    write_table(parsed.folder / "voices.csv", "audio", list_words(words, "audio"))
    write_table(parsed.folder / "pictures.csv", "image", list_words(words, "image"))


if __name__ == "__main__":
    run_program(main)
