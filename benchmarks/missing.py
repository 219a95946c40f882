"""Accuracy as modalities go missing, compared with models without presence inputs.

    python -m benchmarks.missing --data FILE.csv --presets gated,late,... --output DIR

Trains each preset, and an ordinary variant: without presence inputs and modality
dropout, and with zeros for a missing modality. Then each cell of the test rows is
removed with a probability of 50 and 90 % (`--missing 50,90`), but never all cells of a
row. All models get the same rows. The same command resumes an interrupted run.
"""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from mmkeras.cli import run_program
from mmkeras.data.columns import find_columns
from mmkeras.data.demo_tables import table_or_demo
from mmkeras.data.table import Row, read_rows
from mmkeras.errors import UserError
from mmkeras.experiments import comparison_run
from mmkeras.experiments.comparison_run import ComparisonArgs, ModelRuns
from mmkeras.experiments.comparison_table import (
    INTERVAL_METHOD,
    TestPredictions,
    accuracy,
    difference,
    read_predictions,
)
from mmkeras.experiments.subprocess_run import read_metrics, run_with_log
from mmkeras.files import write_text
from mmkeras.modalities.columns import build_columns
from mmkeras.reports.tables import format_interval, markdown_table
from mmkeras.schema import (
    ID,
    LABEL,
    LABEL_SEPARATOR,
    METRICS_FILE,
    PREDICTIONS_FILE,
)
from mmkeras.training.run_folder import data_name

ORDINARY = ("--fusion.presence", "false", "--fusion.modality_dropout", "0")
_FILES = ("missing.md", "missing.json")


def main(argv: Sequence[str]) -> int:
    """Parses the command line and measures; returns the exit code."""
    parser = comparison_run.build_parser("benchmarks.missing", __doc__.split("\n\n")[0])
    parser.add_argument(
        "--missing",
        default="50,90",
        metavar="PERCENT,...",
        help="Probabilities of a missing cell.",
    )
    args = comparison_run.parse_args(parser, argv, extra_flags=["--missing"])
    chances = _parse_chances(parser.parse_args(argv).missing)
    plan = partial(comparison_run.plan_runs, args)
    pairs = [(plan(p), plan(p, "ordinary", ORDINARY)) for p in args.presets]
    for _, ordinary in pairs:
        ordinary.measures_cost = False  # it is that of the preset
    models = list(chain.from_iterable(pairs))
    with comparison_run.locked_folder(args, models):
        comparison_run.train_all(models)
        tables = _write_tables(args, models, chances)
        _predict_all(models, tables)
        baselines = _baseline_rows(args, models, tables)
        _write_report(args, pairs, tables, baselines)
    print(f"\n{(args.folder / _FILES[0]).read_text()}")
    print("\n".join(f"Written: {args.folder / name}" for name in _FILES))
    return 1 if any(model.error for model in models) else 0


def _parse_chances(text: str) -> list[int]:
    try:
        chances = [int(word) for word in text.split(",")]
    except ValueError:
        chances = [-1]
    if not all(0 < chance < 100 for chance in chances):
        raise UserError(f"--missing '{text}' must be numbers from 1 to 99, as 50,90.")
    return chances


def keep_cells(present: np.ndarray, chance: float, seed: int) -> np.ndarray:
    """Returns which of the present cells (N, M) bool remain.

    Each cell is removed independently with the probability `chance`. Where a row would
    lose all cells, a random one remains.
    """
    rng = np.random.default_rng([seed, round(100 * chance)])
    remains = present & (rng.random(present.shape) >= chance)
    last = np.where(present, rng.random(present.shape), -1).argmax(axis=1)
    empty = np.flatnonzero(present.any(axis=1) & ~remains.any(axis=1))
    remains[empty, last[empty]] = True
    return remains


def _write_tables(
    args: ComparisonArgs, models: list[ModelRuns], chances: list[int]
) -> dict[int, dict[int, Path]]:
    """Writes seed -> chance -> table of the test rows; 0 has the rows of all tables."""
    source, tables = table_or_demo(args.table), {}
    for seed in args.seeds:
        folder = next((m.finished[seed] for m in models if seed in m.finished), None)
        if folder is None:
            continue
        config, _ = find_columns(source, models[0].runs[seed].config)
        tested = read_predictions(folder / PREDICTIONS_FILE)
        rows = read_rows(source, config.table, list(config.columns))
        rows = [row for row in rows if row.id in tested]
        has_files = {
            column.name for column in build_columns(config) if column.has_files
        }
        base = source.parent.resolve()
        rows = [_with_absolute_paths(row, base, has_files) for row in rows]
        rows_by_chance = {c: _remove_cells(rows, c, seed) for c in chances}
        rows_by_chance[0] = [
            replace(row, id=f"{chance}:{row.id}")
            for chance in chances
            for row in rows_by_chance[chance]
        ]
        tables[seed] = {
            chance: _write_rows(args.folder / f"holes{chance}-seed{seed}.csv", rows)
            for chance, rows in rows_by_chance.items()
        }
    return tables


def _with_absolute_paths(row: Row, folder: Path, has_files: set[str]) -> Row:
    cells = {
        name: str(folder / cell) if cell and name in has_files else cell
        for name, cell in row.cells.items()
    }
    return replace(row, cells=cells)


def _remove_cells(rows: list[Row], chance: int, seed: int) -> list[Row]:
    present = np.array([[bool(cell) for cell in row.cells.values()] for row in rows])
    remains = keep_cells(present, chance / 100, seed)
    result = []
    for row, kept in zip(rows, remains, strict=True):
        pairs = zip(row.cells.items(), kept, strict=True)
        cells = {m: cell if keep else "" for (m, cell), keep in pairs}
        result.append(replace(row, cells=cells))
    return result


def _write_rows(path: Path, rows: list[Row]) -> Path:
    """Writes rows with the default names of id and label, under all their columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([ID, LABEL, *rows[0].cells])
        for row in rows:
            label = LABEL_SEPARATOR.join(row.labels)
            writer.writerow([row.id, label, *row.cells.values()])
    return path


def _predictions_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.holes.csv")


def _predict_all(models: list[ModelRuns], tables) -> None:
    """Predicts the rows with missing cells, in one process per model."""
    runs = [(m, seed, path) for m in models for seed, path in m.finished.items()]
    for number, (model, seed, folder) in enumerate(runs, 1):
        path, run = _predictions_file(folder), model.runs[seed]
        progress = f"[{number:>{len(str(len(runs)))}}/{len(runs)}]"
        print(f"{progress} {run.name}, with holes: ", end="", flush=True)
        chances = set(tables[seed]) - {0}
        if not path.exists() or set(_split_predictions(path)) != chances:
            command = [sys.executable, "-m", "mmkeras.predict", "--model", str(folder)]
            command += ["--data", str(tables[seed][0]), "--output", str(path)]
            if error := run_with_log(command, run.log):
                raise UserError(f"The predictions of {run.name} failed: {error}")
        predictions = _split_predictions(path).items()
        shares = [f"{sum(p.values()) / len(p):.3f} at {c} %" for c, p in predictions]
        print(", ".join(shares), flush=True)


def _split_predictions(path: Path) -> dict[int, TestPredictions]:
    """Returns chance -> predictions."""
    predictions: dict[int, TestPredictions] = {}
    for name, is_correct in read_predictions(path).items():
        chance, _, row = name.partition(":")
        predictions.setdefault(int(chance), {})[row] = is_correct
    return predictions


def _read_all_predictions(model: ModelRuns, seed: int) -> dict[int, TestPredictions]:
    folder = model.finished[seed]
    complete = read_predictions(folder / PREDICTIONS_FILE)
    return {0: complete, **_split_predictions(_predictions_file(folder))}


def _baseline_rows(args: ComparisonArgs, models: list[ModelRuns], tables) -> list[dict]:
    """Returns the majority and a logistic regression, with zeros for missing cells."""
    rows = comparison_run.baseline_rows(models)
    model = next((m for m in models if m.finished), None)
    if model is None:
        return []
    for row in rows:
        row["at"] = {0: row["accuracy"]}
    seed, folder = next(iter(model.finished.items()))
    for chance, table in tables[seed].items():
        if not chance:
            continue
        output = args.folder / f"baselines-{chance}"
        if not (output / METRICS_FILE).exists():
            command = [sys.executable, "-m", "benchmarks.simple", str(folder)]
            command += [str(table), str(output)]
            if error := run_with_log(command, model.runs[seed].log):
                raise UserError(f"The baselines failed: {error}")
        baselines = read_metrics(output)["baselines"]
        for row in rows:
            name = row["name"].replace(" ", "_")
            row["at"][chance] = baselines[name]["accuracy"]
    return rows


def _write_report(args: ComparisonArgs, pairs, tables, baselines: list[dict]) -> None:
    rows = [row for pair in pairs for row in _model_rows(*pair)]
    chances = sorted({c for row in [*rows, *baselines] for c in row["at"]})
    shares = _missing_shares(tables)
    content = {
        "data": data_name(args.table),
        "settings": list(args.flags),
        "how": INTERVAL_METHOD,
        "holes": shares,
        "models": rows,
        "baselines": baselines,
    }
    header = ["model", "parameters", "s", "ms per row", *(f"{c} %" for c in chances)]
    cells = [_format_row(row, chances) for row in [*rows, *baselines]]
    notes = [
        f"{INTERVAL_METHOD} An ordinary model has no presence inputs and no modality "
        "dropout, and gets zeros for a missing modality; `gain` is its difference to "
        "the preset, in pairs of the same row and seed. Columns are the probability "
        "that a cell of a test row is removed, but never all cells: "
        + "; ".join(
            f"{c} % removes {100 * share['cells']:.0f} % of the cells, and "
            f"{100 * share['rows']:.0f} % of the rows lack something"
            for c, share in shares.items()
        )
        + ". s is from the start of training to the report; ms per row is the latency "
        "of the export, from raw bytes. Baselines with missing cells have one seed."
    ]
    notes += [f"{m.name}: {m.error}" for pair in pairs for m in pair if m.error]
    page = "\n\n".join([markdown_table(header, cells), *notes])
    texts = [page + "\n", json.dumps(content, indent=1)]
    for name, text in zip(_FILES, texts, strict=True):
        write_text(args.folder / name, text)


def _missing_shares(tables) -> dict[int, dict[str, float]]:
    """Returns chance -> shares of empty cells and of rows with an empty cell."""
    shares = {}
    for chance, table in next(iter(tables.values()), {}).items():
        if chance:
            with table.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            empty = [
                [not cell for name, cell in row.items() if name not in (ID, LABEL)]
                for row in rows
            ]
            shares[chance] = {
                "cells": float(np.mean(empty)),
                "rows": float(np.any(empty, axis=1).mean()),
            }
    return shares


def _model_rows(preset: ModelRuns, ordinary: ModelRuns) -> list[dict]:
    """Returns the rows of a preset, its ordinary variant and their difference."""
    seeds = [seed for seed in preset.finished if seed in ordinary.finished]
    rows = [_model_row(preset), _model_row(ordinary)]
    if seeds:
        ours, others = (
            [_read_all_predictions(m, seed) for seed in seeds]
            for m in (preset, ordinary)
        )
        gain = {
            c: difference(
                [run[c] for run in ours], [run[c] for run in others], preset.resamples
            )
            for c in ours[0]
        }
        rows.append({"name": f"{preset.name} gain", "at": gain})
    return rows


def _model_row(model: ModelRuns) -> dict:
    predictions = [_read_all_predictions(model, seed) for seed in model.finished]
    at = {
        c: accuracy([p[c] for p in predictions], model.resamples)
        for c in (predictions[0] if predictions else ())
    }
    return {**model.row(), "at": at}


def _format_row(row: dict, chances: list[int]) -> list[str]:
    forms = (("parameters", "{:,}"), ("seconds", "{:.0f}"), ("row_ms", "{:.1f}"))
    numbers = [
        form.format(row[name]) if row.get(name) is not None else ""
        for name, form in forms
    ]
    intervals = [format_interval(row["at"].get(c)) for c in chances]
    return [row["name"], *numbers, *intervals]


if __name__ == "__main__":
    run_program(main)
