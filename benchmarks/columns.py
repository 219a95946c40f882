"""A table with columns of every type: what each contributes, and what it costs.

    python -m benchmarks.columns words --data words/data_chapter.csv [--output DIR]
    python -m benchmarks.columns vectors [--output DIR]

`words` adds to a table of texts, images and audio a description, numbers, categories
and dates that each know something of the class, trains, and prints the Shapley value of
each branch. `vectors` trains on 2,000 rows of precomputed vectors of text, image and
audio in one Parquet file.
"""

import argparse
import csv
import json
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from benchmarks.process_watch import run_python

_ROWS, _WIDTHS, _CLASSES = 2000, {"text": 384, "image": 512, "audio": 128}, 5
_HINT = 0.45  # probability that a column tells the class of its row


def write_words(source: Path, path: Path) -> list[str]:
    """Writes the table of columns of every type; returns their flags."""
    rng = np.random.default_rng(0)
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    for row in rows:
        truth = classes.index(row["label"])
        hint = [
            truth if rng.random() < _HINT else rng.integers(len(classes))
            for _ in range(4)
        ]
        day = date(2024, 1 + 3 * int(hint[3]), 1) + timedelta(int(rng.integers(60)))
        row |= {
            "title": row.pop("text"),
            "description": f"it reminds me of {'abcdefgh'[hint[0]] * 3} and of you",
            "price (€)": f"{10 * hint[1] + rng.normal(scale=4):.2f}",
            "age": "" if rng.random() < 0.2 else str(rng.integers(1, 30)),
            "breed": f"breed {hint[2]}",
            "found": day.isoformat(),
            "photo": str(source.parent.resolve() / row.pop("image")),
            "voice": str(source.parent.resolve() / row.pop("audio")),
        }
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    types = {"text": "title,description", "image": "photo", "audio": "voice"}
    types |= {"numeric": "price (€),age", "category": "breed", "date": "found"}
    return [word for t, names in types.items() for word in (f"--table.{t}", names)]


def write_vectors(path: Path) -> list[str]:
    """Writes a Parquet file of vectors, each of which tells the class weakly."""
    import pyarrow as pa
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    labels = rng.integers(_CLASSES, size=_ROWS)
    columns = {"label": [f"class {label}" for label in labels]}
    for name, width in _WIDTHS.items():
        centres = rng.normal(size=(_CLASSES, width)) * 0.08
        vectors = centres[labels] + rng.normal(size=(_ROWS, width))
        columns[f"{name} embedding"] = list(vectors.astype(np.float32))
    parquet.write_table(pa.table(columns), path)
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("words", "vectors"))
    parser.add_argument("--data", type=Path, help="Table of words.")
    parser.add_argument("--output", type=Path, help="Folder of table and run.")
    arguments, flags = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        table = folder / ("table.csv" if arguments.kind == "words" else "table.parquet")
        if arguments.kind == "words":
            flags += write_words(arguments.data, table)
        else:
            flags += write_vectors(table)
        words = ["--preset", "small-concat", "--data", str(table), *flags]
        start = time.perf_counter()
        _, _, gb = run_python(
            "-m", "mmkeras.train", *words, "--output", str(folder / "run")
        )
        seconds = time.perf_counter() - start
        metrics = json.loads((folder / "run" / "metrics.json").read_text())
    accuracy = metrics["metrics"]["accuracy"]["value"]
    linear = metrics["baselines"]["logistic_regression"]["accuracy"]["value"]
    print(f"accuracy {accuracy:.3f}, logistic regression {linear:.3f}")
    for name, share in metrics["shapley"].items():
        interval = f"({share['low']:+.3f} to {share['high']:+.3f})"
        print(f"  {name:<16} {share['value']:+.3f}  {interval}")
    print(f"{seconds:.0f} s, {gb:.1f} GB")


if __name__ == "__main__":
    main()
