"""How accuracy falls as modalities go missing, beside ordinary models.

    python -m benchmarks.missing --data FILE.csv --presets gated,late,... --output DIR

Trains each preset, and an ordinary model of it: without presence and modality dropout,
where an absent modality is zeros. Then each cell of the test rows is emptied with a
chance of 50 and 90 % (`--missing 50,90`), but never the last one of a row; all models
meet the same holes. Settings hold for all models; the same command goes on.
"""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmkeras.cli import run_program
from mmkeras.data import demo_dataset
from mmkeras.data.table import Row, read_rows
from mmkeras.errors import UserError
from mmkeras.experiments import comparison_run as contests
from mmkeras.experiments.comparison_run import ComparisonArgs, ModelRuns
from mmkeras.experiments.comparison_table import (
    HOW,
    TestPredictions,
    accuracy,
    difference,
    read_predictions,
)
from mmkeras.experiments.subprocess_run import run_with_log
from mmkeras.files import write_text
from mmkeras.reports.tables import markdown_table, with_interval
from mmkeras.schema import (
    ID,
    LABEL,
    LABEL_SEPARATOR,
    METRICS_FILE,
    MODALITIES,
    PREDICTIONS_FILE,
    TEXT,
)
from mmkeras.training.run_folder import data_name

ORDINARY = ("--fusion.presence", "false", "--fusion.modality_dropout", "0")
_FILES = ("missing.md", "missing.json")


def main(argv: Sequence[str]) -> int:
    """Parses the command line and measures; returns the exit code."""
    parser = contests.build_parser("benchmarks.missing", __doc__.split("\n\n")[0])
    parser.add_argument(
        "--missing", default="50,90", metavar="PERCENT,...", help="Chances of a hole."
    )
    contest = contests.parse_args(parser, argv, own=["--missing"])
    chances = _chances(parser.parse_args(argv).missing)
    pairs = [
        (
            contests.plan_runs(contest, preset),
            contests.plan_runs(contest, preset, "ordinary", ORDINARY),
        )
        for preset in contest.presets
    ]
    for _, ordinary in pairs:
        ordinary.measured = False  # it costs what the preset does
    entries = [entry for pair in pairs for entry in pair]
    with contests.locked_folder(contest, entries):
        contests.train_all(entries)
        tables = _write_tables(contest, entries, chances)
        _answer_all(contest, entries, tables)
        simple = _baselines(contest, entries, tables)
        _report(contest, pairs, tables, simple)
    print(f"\n{(contest.folder / _FILES[0]).read_text()}")
    print("\n".join(f"Written: {contest.folder / name}" for name in _FILES))
    return 1 if any(entry.error for entry in entries) else 0


def _chances(words: str) -> list[int]:
    try:
        chances = [int(word) for word in words.split(",")]
    except ValueError:
        chances = [-1]
    if not all(0 < chance < 100 for chance in chances):
        raise UserError(f"--missing '{words}' must be numbers from 1 to 99, as 50,90.")
    return chances


# The holes ------------------------------------------------------------------------


def kept(there: np.ndarray, chance: float, seed: int) -> np.ndarray:
    """Returns which cells (N, M) bool of those that are there stay.

    Each goes with the chance, on its own; where all of a row would go, one stays, any
    of them alike.
    """
    rng = np.random.default_rng([seed, round(100 * chance)])
    stays = there & (rng.random(there.shape) >= chance)
    last = np.where(there, rng.random(there.shape), -1).argmax(axis=1)
    bare = np.flatnonzero(there.any(axis=1) & ~stays.any(axis=1))
    stays[bare, last[bare]] = True
    return stays


def _write_tables(
    contest: ComparisonArgs, entries, chances
) -> dict[int, dict[int, Path]]:
    """Writes seed -> chance -> table of the test rows with holes; 0 is all of them."""
    source = (
        contest.table
        or demo_dataset.make_dataset(demo_dataset.default_folder()) / "data.csv"
    )
    tables = {}
    for seed in contest.seeds:
        folder = next((e.finished[seed] for e in entries if seed in e.finished), None)
        if folder is None:
            continue
        columns = entries[0].trials[seed].config.table
        tested = read_predictions(folder / PREDICTIONS_FILE)
        rows = [row for row in read_rows(source, columns) if row.id in tested]
        rows = [_placed(row, source.parent.resolve()) for row in rows]
        holes = {chance: _emptied(rows, chance, seed) for chance in chances}
        holes[0] = [
            replace(row, id=f"{chance}:{row.id}")
            for chance, of_chance in holes.items()
            for row in of_chance
        ]
        tables[seed] = {
            chance: _written(contest.folder / f"holes{chance}-seed{seed}.csv", rows)
            for chance, rows in holes.items()
        }
    return tables


def _placed(row: Row, folder: Path) -> Row:
    """A row whose paths hold from any folder."""
    cells = {
        m: str(folder / cell) if cell and (m != TEXT or cell.endswith(".npy")) else cell
        for m, cell in row.cells.items()
    }
    return replace(row, cells=cells)


def _emptied(rows: list[Row], chance: int, seed: int) -> list[Row]:
    there = np.array([[bool(cell) for cell in row.cells.values()] for row in rows])
    stays = kept(there, chance / 100, seed)
    return [
        replace(
            row,
            cells={
                m: cell if stay else ""
                for (m, cell), stay in zip(row.cells.items(), of_row, strict=True)
            },
        )
        for row, of_row in zip(rows, stays, strict=True)
    ]


def _written(path: Path, rows: list[Row]) -> Path:
    """Writes rows under the default names of columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        modalities = list(rows[0].cells)
        writer.writerow([ID, LABEL, *modalities])
        for row in rows:
            label = LABEL_SEPARATOR.join(row.labels)
            writer.writerow([row.id, label, *row.cells.values()])
    return path


# The answers ----------------------------------------------------------------------


def _answers_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.holes.csv")


def _answer_all(contest, entries, tables) -> None:
    """Asks each model for the rows with holes, in a process of its own."""
    runs = [(e, seed, path) for e in entries for seed, path in e.finished.items()]
    for number, (entry, seed, folder) in enumerate(runs, 1):
        path, name = _answers_file(folder), entry.trials[seed].name
        place = f"[{number:>{len(str(len(runs)))}}/{len(runs)}]"
        print(f"{place} {name}, with holes: ", end="", flush=True)
        chances = set(tables[seed]) - {0}
        if not path.exists() or set(_split_answers(path)) != chances:
            command = [sys.executable, "-m", "mmkeras.predict", "--model", str(folder)]
            command += ["--data", str(tables[seed][0]), "--output", str(path)]
            error = run_with_log(command, entry.trials[seed].log)
            if error:
                raise UserError(f"{name} could not answer: {error}")
        found = _split_answers(path)
        each = [f"{sum(a.values()) / len(a):.3f} at {c} %" for c, a in found.items()]
        print(", ".join(each), flush=True)


def _split_answers(path: Path) -> dict[int, TestPredictions]:
    """Returns chance -> answers."""
    found: dict[int, TestPredictions] = {}
    for name, right in read_predictions(path).items():
        chance, _, row = name.partition(":")
        found.setdefault(int(chance), {})[row] = right
    return found


def _answers(entry: ModelRuns, seed: int) -> dict[int, TestPredictions]:
    folder = entry.finished[seed]
    there = read_predictions(folder / PREDICTIONS_FILE)
    return {0: there, **_split_answers(_answers_file(folder))}


def _baselines(contest, entries, tables) -> list[dict]:
    """The majority and a logistic regression, which sees zeros for what is absent."""
    rows = contests.baselines(entries)
    first = next((e for e in entries if e.finished), None)
    if first is None:
        return []
    for row in rows:
        row["at"] = {0: row["accuracy"]}
    seed, folder = next(iter(first.finished.items()))
    for chance, table in tables[seed].items():
        if not chance:
            continue
        output = contest.folder / f"baselines-{chance}"
        if not (output / METRICS_FILE).exists():
            command = [sys.executable, "-m", "benchmarks.simple", str(folder)]
            error = run_with_log(
                [*command, str(table), str(output)], first.trials[seed].log
            )
            if error:
                raise UserError(f"The baselines failed: {error}")
        metrics = json.loads((output / METRICS_FILE).read_text(encoding="utf-8"))
        for row in rows:
            name = row["name"].replace(" ", "_")
            row["at"][chance] = metrics["baselines"][name]["accuracy"]
    return rows


# The table ------------------------------------------------------------------------


def _report(contest, pairs, tables, simple) -> None:
    rows = [row for pair in pairs for row in _rows(*pair)]
    chances = sorted({c for row in [*rows, *simple] for c in row["at"]})
    holes = _holes(tables)
    content = {
        "data": data_name(contest.table),
        "settings": list(contest.flags),
        "how": HOW,
        "holes": holes,
        "models": rows,
        "baselines": simple,
    }
    header = ["model", "parameters", "s", "ms a row", *(f"{c} %" for c in chances)]
    cells = [_cells(row, chances) for row in [*rows, *simple]]
    notes = [
        f"{HOW} An ordinary model has no presence and no modality dropout, and gets "
        "zeros for what is absent; `gain` is what presence adds to it, in pairs of the "
        "same row and seed. Columns are the chance of each cell of a test row to be "
        "emptied, but never the last one of a row: "
        + "; ".join(
            f"{c} % empties {100 * h['cells']:.0f} % of the cells, and "
            f"{100 * h['rows']:.0f} % of the rows lack something"
            for c, h in holes.items()
        )
        + ". s is from the start of training to the report; ms a row that of the "
        "export, from raw bytes, alone. Baselines with holes are those of one seed."
    ]
    notes += [f"{e.name}: {e.error}" for pair in pairs for e in pair if e.error]
    page = "\n\n".join([markdown_table(header, cells), *notes])
    texts = [page + "\n", json.dumps(content, indent=1)]
    for name, text in zip(_FILES, texts, strict=True):
        write_text(contest.folder / name, text)


def _holes(tables) -> dict[int, dict[str, float]]:
    """Returns chance -> share of cells that are empty and of rows that lack one."""
    found = {}
    for chance, table in next(iter(tables.values()), {}).items():
        if chance:
            with table.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            empty = [[not row[m] for m in MODALITIES if m in row] for row in rows]
            found[chance] = {
                "cells": float(np.mean(empty)),
                "rows": float(np.any(empty, axis=1).mean()),
            }
    return found


def _rows(entry: ModelRuns, ordinary: ModelRuns) -> list[dict]:
    """A preset, its ordinary model, and what presence adds."""
    both = [seed for seed in entry.finished if seed in ordinary.finished]
    rows = [_row(entry), _row(ordinary)]
    if both:
        ours, theirs = ([_answers(e, seed) for seed in both] for e in (entry, ordinary))
        gain = {
            c: difference([a[c] for a in ours], [a[c] for a in theirs], entry.resamples)
            for c in ours[0]
        }
        rows.append({"name": f"{entry.name} gain", "at": gain})
    return rows


def _row(entry: ModelRuns) -> dict:
    found = [_answers(entry, seed) for seed in entry.finished]
    at = {
        c: accuracy([a[c] for a in found], entry.resamples)
        for c in found[:1] and found[0]
    }
    return {**entry.row(), "at": at}


def _cells(row, chances) -> list[str]:
    forms = (("parameters", "{:,}"), ("seconds", "{:.0f}"), ("row_ms", "{:.1f}"))
    numbers = [
        form.format(row[name]) if row.get(name) is not None else ""
        for name, form in forms
    ]
    return [row["name"], *numbers, *(with_interval(row["at"].get(c)) for c in chances)]


if __name__ == "__main__":
    run_program(main)
