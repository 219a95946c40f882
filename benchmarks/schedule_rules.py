"""Cross-validation of rules that set batch size, passes and epochs by the rows.

    python -m benchmarks.schedule_rules [--folds 3] [--tables iris,wine]

The tables are those of `benchmarks.small_tables`, without their test rows. Each row of
the others is predicted once, by a model with default settings that is trained on the
other folds. A rule has the smallest batch and the smallest number of steps of a run.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

from sklearn.model_selection import StratifiedKFold

from benchmarks.small_tables import (
    TABLES,
    Rows,
    default_settings,
    read_arguments,
    split_rows,
    train,
    write_table,
)
from mmkeras.cli import run_program
from mmkeras.config import Config
from mmkeras.config.schedule import BATCH_ROWS, EPOCHS, STEPS_PER_EPOCH, with_schedule

# Smallest batch, and smallest number of steps. A batch has a twentieth of the rows, at
# least the smallest and at most 32. None: 30 epochs of one pass, batches of 32.
RULES = (None, (8, 600), (8, 1200), (16, 600), (32, 600), (32, 1200))
Rule = tuple[int, int] | None


def with_rule(config: Config, rows: int, rule: Rule) -> Config:
    """Returns the settings with the numbers of a rule for this many training rows."""
    if rule is None:
        train = replace(config.train, batch_size=BATCH_ROWS)
        return replace(config, epochs=EPOCHS, train=train)
    smallest, steps = rule
    size = min(BATCH_ROWS, max(smallest, rows // STEPS_PER_EPOCH))
    config = replace(config, train=replace(config.train, batch_size=size))
    return with_schedule(config, rows, min_steps=steps)


def cross_validate(rows: Rows, rules: Sequence[Rule], folds: int) -> list[float]:
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
                config = with_rule(default_settings(rows), trained, rule)
                config = replace(config, seed=fold)
                accuracies[k].append(train(table, config, Path(folder) / f"run-{k}"))
    return [mean(values) for values in accuracies]


def main(argv: Sequence[str]) -> None:
    names, folds = read_arguments(argv, __doc__, "--folds")
    heads = ["fixed"] + [f"{batch} rows, {steps} steps" for batch, steps in RULES[1:]]
    print(f"| table | {' | '.join(heads)} |\n|{'---|' * (len(RULES) + 1)}")
    results = []
    for name in names:
        results.append(cross_validate(TABLES[name](), RULES, folds))
        print(f"| {name} | {' | '.join(f'{x:.3f}' for x in results[-1])} |", flush=True)
    means = [mean(column) for column in zip(*results, strict=True)]
    print(f"| mean | {' | '.join(f'{x:.3f}' for x in means)} |")


if __name__ == "__main__":
    run_program(main)
