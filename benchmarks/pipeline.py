"""Seconds of each component at growing tables, against the plain program's whole run.

    python -m benchmarks.pipeline [--rows 100,1000,10000] [--epochs 3]

A run on 30 rows comes first: what its components take is their start-up, whose share
of the larger runs is printed. The plain program trains the same rows with the same
settings, in a process of its own too.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.tables import write_table

_LINE = re.compile(r"\[ *\d+/\d+\] (\S+) +([\d.]+) s")
_SMALLEST = 30
_SETTINGS = {
    "--preset": "small-concat",
    "--image.size_px": 32,
    "--evaluate.bootstrap_resamples": 50,
    "--evaluate.worst_errors": 2,
}


def run(module: str, *words: str) -> tuple[str, float, float]:
    """Runs a program: what it printed, its seconds and its peak memory in GB."""
    command = [sys.executable, "-m", module, *words]
    command += [str(word) for pair in _SETTINGS.items() for word in pair]
    with tempfile.NamedTemporaryFile("r+") as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        took_s = time.perf_counter() - start
        text = Path(log.name).read_text()
    if status:
        sys.exit(text[-3000:])
    return text, took_s, usage.ru_maxrss / 1e6


def measure(folder: Path, rows: int, epochs: int) -> dict[str, float]:
    """Runs both programs on a table; returns seconds by component and of the whole."""
    table = write_table(folder / "rows", rows, size_px=(160, 120))
    given = ("--data", str(table), "--epochs", str(epochs), "--table.cache_dir")
    text, took_s, gb = run(
        *("pipeline.local", "--root", str(folder / "root"), *given),
        str(folder / "cache of the pipeline"),
    )
    found = {name: float(seconds) for name, seconds in _LINE.findall(text)}
    found["imports and graph"] = took_s - sum(found.values())
    _, plain_s, plain_gb = run(
        *("mmkeras.train", "--output", str(folder / "run"), *given),
        str(folder / "cache of the plain program"),
    )
    print(
        f"{rows:,} rows: pipeline {took_s:.0f} s and {gb:.1f} GB, plain program "
        f"{plain_s:.0f} s and {plain_gb:.1f} GB, ratio {took_s / plain_s:.2f}",
        flush=True,
    )
    return {**found, "whole pipeline": took_s, "plain program": plain_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="100,1000,10000")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    sizes = [_SMALLEST, *(int(n) for n in arguments.rows.split(","))]
    columns = []
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            columns.append(measure(Path(folder), rows, arguments.epochs))
    start_up, *larger = columns
    print("| seconds of | " + " | ".join(f"{n:,} rows" for n in sizes) + " |")
    print("|---" * (len(sizes) + 1) + "|")
    for name, least_s in start_up.items():
        cells = [f"{least_s:.1f}"]
        for column in larger:
            share = min(1.0, least_s / max(column[name], 0.1))
            cells.append(f"{column[name]:.1f} ({share:.0%} start-up)")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
