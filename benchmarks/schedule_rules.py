"""Cross-validation of the rule that sets batch size and epochs from the number of rows.

    python -m benchmarks.schedule_rules [--folds 3] [--tables iris,wine]

The tables are those of `benchmarks.small_tables`, without their test rows. Each row of
the others is predicted once, by a model with default settings that is trained on the
other folds. A rule has the smallest batch and the smallest number of steps of a run.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from sklearn.model_selection import StratifiedKFold

from benchmarks.small_tables import (
    TABLES,
    Rows,
    check_names,
    default_settings,
    split_rows,
    train,
    write_table,
)
from mmkeras.cli import run_program
from mmkeras.config import Config
from mmkeras.config.schedule import BATCH_ROWS, EPOCHS, STEPS_PER_EPOCH, steps_per_pass

# Smallest batch, and smallest number of steps; with 0 an epoch is one pass.
RULES = ((32, 0), (4, 600), (8, 600), (4, 1200), (8, 1200), (8, 1800))


def with_rule(config: Config, rows: int, min_batch: int, min_steps: int) -> Config:
    """Returns the settings with the numbers of a rule for this many training rows."""
    size = min(BATCH_ROWS, max(min_batch, rows // STEPS_PER_EPOCH))
    steps = steps_per_pass(rows, size)
    passes = -(-STEPS_PER_EPOCH // steps) if min_steps else 1
    epochs = max(EPOCHS, -(-min_steps // (passes * steps)))
    train = replace(config.train, batch_size=size, passes=passes)
    return replace(config, epochs=epochs, train=train)


def cross_validate(rows: Rows, rules: Sequence[tuple[int, int]], folds: int):
    """Returns the accuracy of each rule, the mean of the folds."""
    rows = rows.take(
        [i for i, split in enumerate(split_rows(rows)) if split == "train"]
    )
    accuracies = [[] for _ in rules]
    parts = StratifiedKFold(folds, shuffle=True, random_state=0)
    for fold, (_, held_out) in enumerate(parts.split(rows.labels, rows.labels)):
        held_out = set(held_out)
        splits = ["test" if i in held_out else "train" for i in range(len(rows.labels))]
        trained = round((len(rows.labels) - len(held_out)) * 0.85)  # without validation
        with tempfile.TemporaryDirectory() as folder:
            table = write_table(Path(folder) / "table", rows, splits)
            for k, rule in enumerate(rules):
                config = with_rule(default_settings(rows), trained, *rule)
                config = replace(config, seed=fold)
                accuracies[k].append(train(table, config, Path(folder) / f"run-{k}"))
    return [mean(values) for values in accuracies]


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--tables", default=",".join(TABLES))
    arguments = parser.parse_args(argv)
    names = check_names(arguments.tables.split(","))
    heads = [f"{batch} rows, {steps} steps" for batch, steps in RULES]
    print(f"| table | {' | '.join(heads)} |\n|{'---|' * (len(RULES) + 1)}")
    results = []
    for name in names:
        results.append(cross_validate(TABLES[name](), RULES, arguments.folds))
        print(f"| {name} | {' | '.join(f'{x:.3f}' for x in results[-1])} |", flush=True)
    means = [mean(column) for column in zip(*results, strict=True)]
    print(f"| mean | {' | '.join(f'{x:.3f}' for x in means)} |")


if __name__ == "__main__":
    run_program(main)
