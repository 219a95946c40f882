"""Trains a preset on a table several times and prints a row of the README's table.

    python -m benchmarks.accuracy --data FILE.csv [--seeds 3] [--alone] [FLAGS]

Each run is `python -m mmkeras.train` in a process of its own; FLAGS go to it. With
`--alone` each modality is also trained by itself.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmkeras.config import TableConfig
from mmkeras.data.demo_dataset import default_folder, make_dataset
from mmkeras.data.table import table_modalities


def train(table: Path, seed: int, flags: list[str]) -> dict:
    """Trains once; returns accuracy, seconds and peak memory in GB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mmkeras.train", "--data", str(table)]
        command += ["--output", f"{folder}/run", "--seed", str(seed), *flags]
        start = time.perf_counter()
        with open(f"{folder}/log", "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(Path(f"{folder}/log").read_text()[-2000:])
        metrics = json.loads(Path(f"{folder}/run/metrics.json").read_text())
    return {
        "accuracy": metrics["metrics"]["accuracy"]["value"],
        "majority": metrics["baselines"]["majority"]["accuracy"]["value"],
        "logistic": metrics["baselines"]["logistic_regression"]["accuracy"]["value"],
        "masked": {
            m: v["alone"] for m, v in metrics["modalities"].items() if "alone" in v
        },
        "seconds": time.perf_counter() - start,
        "gb": usage.ru_maxrss / 1e6,
    }


def row(name: str, table: Path, seeds: int, flags: list[str]) -> None:
    """Prints the figures of all seeds and their mean."""
    runs = [train(table, seed, flags) for seed in range(seeds)]
    accuracies = [run["accuracy"] for run in runs]
    each = ", ".join(f"{a:.3f}" for a in accuracies)
    print(
        f"{name}: accuracy {statistics.mean(accuracies):.3f} ({each}); majority "
        f"{runs[0]['majority']:.3f}, logistic regression {runs[0]['logistic']:.3f}; "
        f"{statistics.mean(r['seconds'] for r in runs):.0f} s, "
        f"{max(r['gb'] for r in runs):.1f} GB",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="Table; else the embedded data set.")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--alone", action="store_true")
    arguments, flags = parser.parse_known_args()
    table = arguments.data or make_dataset(default_folder()) / "data.csv"
    flags = ["--preset", "small-concat", *flags]
    row("all", table, arguments.seeds, flags)
    modalities = table_modalities(table, TableConfig())
    for modality in modalities if arguments.alone else ():
        only = [*flags, "--table.modalities", modality]
        row(f"{modality} alone", table, arguments.seeds, only)


if __name__ == "__main__":
    main()
