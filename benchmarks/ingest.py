"""Throughput of ingest, compared with a loop that only reads the same bytes.

`--memory` measures the memory for 10,000 rows of 200 KB instead.
"""

import argparse
import csv
import resource
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.pairs import compare, rate
from benchmarks.tables import write_table
from mmkeras.config import Config, TableConfig
from mmkeras.config.presets import small_concat
from mmkeras.data.ingest import ingest


def settings(cache: Path) -> Config:
    config = small_concat()
    return replace(config, table=TableConfig(cache_dir=str(cache)))


def read_all(table: Path) -> None:
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            for name in ("image", "audio"):
                if row[name]:
                    (table.parent / row[name]).read_bytes()


def speed(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder) / "rows", rows)
        config = settings(Path(folder) / "cache")

        def ours():
            shutil.rmtree(config.table.cache_dir, ignore_errors=True)
            return rate(rows, lambda: ingest(table, config))

        compare(
            "ingest rows, against reading only",
            ours,
            lambda: rate(rows, lambda: read_all(table)),
            pairs=3,
        )
        ingest(table, config)
        again = rows / rate(rows, lambda: ingest(table, config))
        print(f"a second run on the same rows: {again:.2f} s")


def memory(rows: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder) / "rows", rows, pad_kb=200, audio=False)
        ingest(table, settings(Path(folder) / "cache"))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"{rows:,} rows of 200 KB: {after - before:,.0f} MB above the imports "
        f"({before:,.0f} MB)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    if arguments.memory:
        memory(10_000)
    else:
        speed(arguments.rows)


if __name__ == "__main__":
    main()
