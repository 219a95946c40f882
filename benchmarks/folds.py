"""Accuracy on small tables: one model, and an ensemble of five folds.

    python -m benchmarks.folds [--seeds 3] [--tables iris,wine]

Tables and default settings are those of `benchmarks.small_tables`. One model takes 15 %
of the rows that are not for test to validate; each of the five takes another fifth of
them.
"""

import contextlib
import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from benchmarks.small_tables import (
    TABLES,
    default_settings,
    read_arguments,
    split_rows,
    train,
    write_table,
)
from mmkeras.cli import run_program
from mmkeras.config import Config, EnsembleConfig, EvaluateConfig

FOLDS = 5


def train_folds(table: Path, config: Config, folder: Path) -> float:
    """Trains an ensemble; returns its accuracy on test rows."""
    from mmkeras.schema import METRICS_FILE
    from mmkeras.training.ensemble import train_run

    config = replace(
        config,
        ensemble=EnsembleConfig(folds=FOLDS),
        evaluate=EvaluateConfig(noise_rows=0, bootstrap_resamples=10),
        table=replace(config.table, cache_dir=str(folder / "cache")),
    )
    folder.mkdir(parents=True)
    with contextlib.redirect_stdout(io.StringIO()):
        train_run(folder, config, table)
    metrics = json.loads((folder / METRICS_FILE).read_text())
    return metrics["metrics"]["accuracy"]["value"]


def measure(name: str, seeds: int) -> tuple[float, float]:
    """Returns the mean accuracies of one model and of the ensemble."""
    rows, results = TABLES[name](), []
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        table = write_table(folder / "table", rows, split_rows(rows))
        for seed in range(seeds):
            config = replace(default_settings(rows), seed=seed)
            one = train(table, config, folder / f"one-{seed}")
            results.append((one, train_folds(table, config, folder / f"folds-{seed}")))
    one, several = zip(*results, strict=True)
    return mean(one), mean(several)


def main(argv: Sequence[str]) -> None:
    names, seeds = read_arguments(argv, __doc__, "--seeds")
    print("| table | one model | five folds | difference |\n|---|---|---|---|")
    differences = []
    for name in names:
        one, several = measure(name, seeds)
        differences.append(several - one)
        print(
            f"| {name} | {one:.3f} | {several:.3f} | {several - one:+.3f} |", flush=True
        )
    print(f"Mean difference: {mean(differences):+.3f}")


if __name__ == "__main__":
    run_program(main)
