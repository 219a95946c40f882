"""Accuracy, time and memory of a preset over several seeds.

    python -m benchmarks.accuracy --data FILE.csv [--seeds 3] [--alone] [FLAGS]

Each run is a process of `python -m mmkeras.train` with FLAGS. `--alone` also trains on
each single column.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from benchmarks.process_watch import run_python
from mmkeras.config import Config
from mmkeras.data.columns import find_columns
from mmkeras.data.demo_tables import table_or_demo


def train(table: Path, seed: int, flags: list[str]) -> dict:
    """Trains once; returns accuracies, seconds and peak memory in GB."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--data", str(table), "--output", f"{folder}/run", "--seed", str(seed)]
        _, seconds, gb = run_python("-m", "mmkeras.train", *words, *flags)
        metrics = json.loads(Path(f"{folder}/run/metrics.json").read_text())
    baselines = metrics["baselines"]
    return {
        "accuracy": metrics["metrics"]["accuracy"]["value"],
        "majority": baselines["majority"]["accuracy"]["value"],
        "logistic": baselines["logistic_regression"]["accuracy"]["value"],
        "seconds": seconds,
        "gb": gb,
    }


def print_row(name: str, table: Path, seeds: int, flags: list[str]) -> None:
    """Prints the accuracy of each seed and the mean."""
    runs = [train(table, seed, flags) for seed in range(seeds)]
    accuracies = [run["accuracy"] for run in runs]
    values = ", ".join(f"{a:.3f}" for a in accuracies)
    print(
        f"{name}: accuracy {statistics.mean(accuracies):.3f} ({values}); majority "
        f"{runs[0]['majority']:.3f}, logistic regression {runs[0]['logistic']:.3f}; "
        f"{statistics.mean(r['seconds'] for r in runs):.0f} s, "
        f"{max(r['gb'] for r in runs):.1f} GB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="Table; default: demo data set.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    arguments, flags = parser.parse_known_args()
    table = table_or_demo(arguments.data)
    flags = ["--preset", "small-concat", *flags]
    print_row("all", table, arguments.seeds, flags)
    if arguments.alone:
        for column in find_columns(table, Config())[0].columns:
            column_flags = [*flags, "--table.modalities", column]
            print_row(f"{column} alone", table, arguments.seeds, column_flags)


if __name__ == "__main__":
    main()
