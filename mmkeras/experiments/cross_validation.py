"""Cross-validation: a run a fold, and what all of them say together."""

import csv
import io
import json
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

from mmkeras import files
from mmkeras.config import Config
from mmkeras.data.table import read_rows
from mmkeras.errors import UserError
from mmkeras.experiments.subprocess_run import (
    check_runs,
    plan_run,
    run_subprocess,
    sigterm_as_keyboard_interrupt,
)
from mmkeras.reports.summary import SHOWN_METRICS
from mmkeras.schema import (
    CONFIG_FILE,
    FOLDS_FILE,
    METRICS_FILE,
    PREDICTION_COLUMNS,
    PREDICTIONS_FILE,
)

_FOLDER = "fold-{}"


def cross_validate(
    folder: Path, config: Config, table: Path | None, folds: int, flags: Sequence[str]
) -> int:
    """Trains a model for each fold of the rows, or goes on; returns the exit code.

    Each is tested on its fold. The folds' run folders, folds.json and predictions.csv
    over all rows come to lie in `folder`.

    Args:
        folder: Of this process alone.
        config: All settings.
        table: The CSV file; None is the embedded data set.
        folds: How many.
        flags: The settings again, as the command line has them.

    Raises:
        UserError: The rows cannot be divided so, the folder holds something else, or
            a fold cannot be trained.
    """
    _check_folder(folder)
    rows, places = _divide(config, table, folds)
    trials = [_trial(folder, table, folds, k, flags) for k in range(1, folds + 1)]
    check_runs(trials)
    _say_folds(rows, places, config)
    sigterm_as_keyboard_interrupt()
    try:
        for k, trial in enumerate(trials, 1):
            _train(trial, f"[{k:>{len(str(folds))}}/{folds}]")
    except KeyboardInterrupt:
        again = [*flags, *(["--data", str(table)] if table else [])]
        again += ["--folds", str(folds), "--output", str(folder)]
        again = shlex.join(["python", "-m", "mmkeras.train", *again])
        print(f"\nInterrupted.\nTo go on: {again}", file=sys.stderr)
        return 130
    _gather(folder, trials, rows, places, config.seed)
    return 0


def check_no_folds(folder: Path) -> None:
    """Refuses a folder of folds for a single run.

    Raises:
        UserError: It is one.
    """
    if (folder / _FOLDER.format(1)).exists():
        raise UserError(
            f"'{folder}' holds a cross-validation. Give another --output, or --folds "
            "to go on with it."
        )


def _check_folder(folder: Path) -> None:
    if (folder / CONFIG_FILE).exists():
        raise UserError(
            f"'{folder}' holds a run without --folds. Give another --output."
        )


def _divide(config, table, folds):
    """Returns the rows that can be used, and the fold of each."""
    from mmkeras.data import demo_dataset  # numpy, which --help does without
    from mmkeras.data.splits import assign_folds

    columns = replace(config.table, folds=folds, fold=1)
    source = (
        table or demo_dataset.make_dataset(demo_dataset.default_folder()) / "data.csv"
    )
    rows = [row for row in read_rows(source, columns) if not row.problem]
    return rows, assign_folds(rows, folds, config.seed)


def _trial(folder, table, folds, fold, flags):
    flags = [*flags, "--table.folds", str(folds), "--table.fold", str(fold)]
    name = _FOLDER.format(fold)
    return plan_run(f"fold {fold}", folder / name, table, flags)


def _say_folds(rows, places, config):
    sizes = sorted(Counter(places).values())
    each = f"{sizes[0]:,}" + (f" to {sizes[-1]:,}" if sizes[0] != sizes[-1] else "")
    groups = len({row.group for row in rows if row.group})
    grouped = f", no group in two ({groups:,} of '{config.table.group_column}')"
    print(
        f"{len(sizes)} folds of {each} rows, each set of labels evenly in all"
        f"{grouped if groups else ''}. Every row is tested once; a split column has "
        "no say.",
        flush=True,
    )


def _train(trial, place):
    print(f"{place} {trial.name}: ", end="", flush=True)
    outcome = run_subprocess(trial)
    if outcome.error:
        print("failed", flush=True)
        raise UserError(f"{outcome.error}\nLog: {trial.log}")
    accuracy = _read_metrics(trial)["metrics"]["accuracy"]["value"]
    when = "was there" if outcome.was_there else f"in {outcome.seconds:.0f} s"
    print(f"accuracy {accuracy:.3f}, {when}", flush=True)


def _read_metrics(trial) -> dict:
    return json.loads((trial.folder / METRICS_FILE).read_text(encoding="utf-8"))


# What all folds say ---------------------------------------------------------------


def _gather(folder, trials, rows, places, seed) -> None:
    """Writes folds.json and predictions.csv, and prints the means."""
    found = [_read_metrics(trial) for trial in trials]
    baselines = [f["baselines"] for f in found]
    simple = {
        name: _spread([b.get(name, {}).get("accuracy") for b in baselines])
        for name in baselines[0]
    }
    content = {
        "folds": len(trials),
        "rows": list(Counter(sorted(places)).values()),
        "groups": len({row.group for row in rows if row.group}),
        "seed": seed,
        "metrics": {
            name: _spread([f["metrics"].get(name) for f in found])
            for name in found[0]["metrics"]
        },
        "baselines": {name: {"accuracy": value} for name, value in simple.items()},
    }
    files.write_text(folder / FOLDS_FILE, json.dumps(content, indent=1))
    tested = _pool(folder, trials, {row.id: i for i, row in enumerate(rows)})
    _say(folder, content, tested)


def _spread(values) -> dict:
    """Returns mean, standard deviation (of a sample) and each fold's value."""
    each = [value and value["value"] for value in values]
    known = [value for value in each if value is not None]
    return {
        "mean": mean(known) if known else None,
        "deviation": stdev(known) if len(known) > 1 else None,
        "each": each,
    }


def _pool(folder, trials, place_of) -> int:
    """Writes all folds' predictions in the order of the table; returns how many."""
    header, pooled = [], []
    for trial in trials:
        path = trial.folder / PREDICTIONS_FILE
        with path.open(newline="", encoding="utf-8") as file:
            header, *answers = csv.reader(file)
        pooled += answers
    at = header.index(PREDICTION_COLUMNS[0])
    pooled.sort(key=lambda answer: place_of[answer[at]])
    text = io.StringIO()
    csv.writer(text).writerows([header, *pooled])
    files.write_text(folder / PREDICTIONS_FILE, text.getvalue())
    return len(pooled)


def _say(folder, content, tested) -> None:
    print(f"Over {content['folds']} folds, mean and standard deviation:")
    lines = {name: content["metrics"].get(name) for name in SHOWN_METRICS}
    for name, baseline in content["baselines"].items():
        lines[f"accuracy of {name.replace('_', ' ')}"] = baseline["accuracy"]
    width = max(map(len, lines))
    for name, value in lines.items():
        if value and value["deviation"] is not None:
            print(f"  {name:<{width}} {value['mean']:.3f}  ({value['deviation']:.3f})")
    print(f"Folds:       {folder / FOLDS_FILE}")
    print(
        f"Predictions: {folder / PREDICTIONS_FILE}, {tested:,} rows, each by the model "
        "that has not seen it"
    )
