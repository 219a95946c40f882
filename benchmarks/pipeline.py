"""Time of each pipeline component by table size, compared with `mmkeras.train`.

    python -m benchmarks.pipeline [--rows 100,1000,10000] [--epochs 3]

The first run has 30 rows: it measures the start-up of the components, whose share of
the larger runs is printed. `mmkeras.train` trains on the same rows with the same
settings.
"""

import argparse
import re
import tempfile
from pathlib import Path

from benchmarks.process_watch import run_python
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
    settings = [str(word) for pair in _SETTINGS.items() for word in pair]
    return run_python("-m", module, *words, *settings)


def measure(folder: Path, rows: int, epochs: int) -> dict[str, float]:
    """Runs both programs on a table; returns seconds by component and in total."""
    table = write_table(folder / "rows", rows, size_px=(160, 120))
    flags = ("--data", str(table), "--epochs", str(epochs), "--table.cache_dir")
    text, took_s, gb = run(
        *("pipeline.local", "--root", str(folder / "root"), *flags),
        str(folder / "cache of the pipeline"),
    )
    times_s = {name: float(seconds) for name, seconds in _LINE.findall(text)}
    times_s["imports and graph"] = took_s - sum(times_s.values())
    _, plain_s, plain_gb = run(
        *("mmkeras.train", "--output", str(folder / "run"), *flags),
        str(folder / "cache of the plain program"),
    )
    print(
        f"{rows:,} rows: pipeline {took_s:.0f} s and {gb:.1f} GB, plain program "
        f"{plain_s:.0f} s and {plain_gb:.1f} GB, ratio {took_s / plain_s:.2f}",
        flush=True,
    )
    return {**times_s, "pipeline in total": took_s, "plain program": plain_s}


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
    for name, start_up_s in start_up.items():
        cells = [f"{start_up_s:.1f}"]
        for column in larger:
            share = min(1.0, start_up_s / max(column[name], 0.1))
            cells.append(f"{column[name]:.1f} ({share:.0%} start-up)")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
