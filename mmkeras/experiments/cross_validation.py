"""K-fold cross-validation: one training run per fold, and the mean of their metrics."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

from mmkeras.config import Config
from mmkeras.errors import UserError
from mmkeras.experiments.subprocess_run import (
    check_runs,
    plan_run,
    print_resume_command,
    read_metrics,
    run_subprocess,
    sigterm_as_keyboard_interrupt,
)
from mmkeras.files import csv_text, write_text
from mmkeras.reports.metric_names import (
    GENERATE_METRICS,
    REGRESSION_METRICS,
    SHOWN_METRICS,
)
from mmkeras.reports.score_text import format_score, score_text_of
from mmkeras.schema import CONFIG_FILE, FOLDS_FILE, PREDICTION_COLUMNS, PREDICTIONS_FILE

_FOLDER = "fold-{}"


def train_folds(
    folder: Path, config: Config, table: Path | None, folds: int, flags: Sequence[str]
) -> int:
    """Trains one model per fold, or resumes; returns the exit code.

    Each model is tested on its fold. `folder` gets one run folder per fold, folds.json,
    and predictions.csv with all rows. `flags` are the settings of `config`.

    Raises:
        UserError: There are too few rows, the folder holds something else, or a run
            fails.
    """
    if (folder / CONFIG_FILE).exists():
        raise UserError(
            f"'{folder}' holds a run without --folds. Give another --output."
        )
    rows, fold_of_row = _assign_folds(config, table, folds)
    runs = []
    for k in range(1, folds + 1):
        words = [*flags, "--table.folds", str(folds), "--table.fold", str(k)]
        runs.append(plan_run(f"fold {k}", folder / _FOLDER.format(k), table, words))
    check_runs(runs)
    _print_folds(rows, fold_of_row, config)
    sigterm_as_keyboard_interrupt()
    try:
        for k, run in enumerate(runs, 1):
            _train(run, f"[{k:>{len(str(folds))}}/{folds}]")
    except KeyboardInterrupt:
        data = ["--data", str(table)] if table else []
        output = ["--folds", str(folds), "--output", str(folder)]
        print_resume_command("mmkeras.train", [*flags, *data, *output])
        return 130
    content = {
        "folds": folds,
        "rows": list(Counter(sorted(fold_of_row)).values()),
        "groups": _count_groups(rows),
        "seed": config.seed,
        **summarize([read_metrics(run.folder) for run in runs]),
    }
    write_text(folder / FOLDS_FILE, json.dumps(content, indent=1))
    predicted_rows = _pool_predictions(folder, runs, rows)
    _print_summary(folder, content, predicted_rows)
    return 0


def check_no_folds(folder: Path) -> None:
    """Checks that the folder of a single run holds no cross-validation."""
    if (folder / _FOLDER.format(1)).exists():
        raise UserError(
            f"'{folder}' holds a cross-validation. Give another --output, or --folds "
            "to go on with it."
        )


def _assign_folds(config, table, folds):
    """Prints the roles of the columns; returns the usable rows, and their folds."""
    from mmkeras.data.columns import describe_roles, find_columns
    from mmkeras.data.demo_tables import demo_note, table_or_demo  # need numpy
    from mmkeras.data.splits import assign_folds
    from mmkeras.data.targets import read_labeled_rows, stratify

    source = table_or_demo(table, config.task)
    resolved, roles = find_columns(source, config)
    print(describe_roles(roles))
    if table is None:
        print(demo_note(config.preset, config.task))
    columns = list(resolved.columns)
    settings = replace(config, table=replace(config.table, folds=folds, fold=1))
    rows = read_labeled_rows(source, settings, columns)
    rows = [row for row in rows if not row.problem]
    return rows, assign_folds(stratify(rows, config.task), folds, config.seed)


def _count_groups(rows) -> int:
    return len({row.group for row in rows if row.group})


def _print_folds(rows, fold_of_row, config):
    sizes = sorted(Counter(fold_of_row).values())
    size = f"{sizes[0]:,}" + (f" to {sizes[-1]:,}" if sizes[0] != sizes[-1] else "")
    note = ""
    if groups := _count_groups(rows):
        note = f", no group in two ({groups:,} of '{config.table.group_column}')"
    print(
        f"{len(sizes)} folds of {size} rows, stratified by label{note}. Every row is "
        "tested once; a split column is ignored.",
        flush=True,
    )


def _train(run, progress):
    print(f"{progress} {run.name}: ", end="", flush=True)
    outcome = run_subprocess(run)
    if outcome.error:
        print("failed", flush=True)
        raise UserError(f"{outcome.error}\nLog: {run.log}")
    score = format_score(read_metrics(run.folder)["metrics"])
    time = "finished before" if outcome.was_finished else f"in {outcome.seconds:.0f} s"
    print(f"{score}, {time}", flush=True)


def summarize(results: list[dict]) -> dict:
    """Returns mean and deviation of each metric, and of the baselines' scores."""
    key = score_text_of(results[0]["metrics"]).key
    folds = [result["baselines"] for result in results]
    return {
        "metrics": {
            name: _spread([result["metrics"].get(name) for result in results])
            for name in results[0]["metrics"]
        },
        "baselines": {
            name: {key: _spread([f.get(name, {}).get(key) for f in folds])}
            for name in folds[0]
        },
    }


def _spread(metrics) -> dict:
    """Returns mean, standard deviation (of a sample) and the value of each fold."""
    values = [metric and metric["value"] for metric in metrics]
    known = [value for value in values if value is not None]
    return {
        "mean": mean(known) if known else None,
        "deviation": stdev(known) if len(known) > 1 else None,
        "each": values,
    }


def _pool_predictions(folder, runs, rows) -> int:
    """Writes all predictions in the order of the table; returns their number."""
    position = {row.id: i for i, row in enumerate(rows)}
    header, pooled = [], []
    for run in runs:
        path = run.folder / PREDICTIONS_FILE
        with path.open(newline="", encoding="utf-8") as file:
            header, *predictions = csv.reader(file)
        pooled += predictions
    id_column = header.index(PREDICTION_COLUMNS[0])
    pooled.sort(key=lambda prediction: position[prediction[id_column]])
    write_text(folder / PREDICTIONS_FILE, csv_text([header, *pooled]))
    return len(pooled)


def _print_summary(folder, content, rows) -> None:
    print(f"Over {content['folds']} folds, mean and standard deviation:")
    names = (*SHOWN_METRICS, *REGRESSION_METRICS, *GENERATE_METRICS)
    lines = {name: content["metrics"].get(name) for name in names}
    for name, baseline in content["baselines"].items():
        for key, value in baseline.items():
            lines[f"{key} of {name.replace('_', ' ')}"] = value
    width = max(map(len, lines))
    for name, value in lines.items():
        if value and value["deviation"] is not None:
            print(f"  {name:<{width}} {value['mean']:.3f}  ({value['deviation']:.3f})")
    print(f"Folds:       {folder / FOLDS_FILE}")
    print(
        f"Predictions: {folder / PREDICTIONS_FILE}, {rows:,} rows, each by the model "
        "that was not trained on it"
    )
