"""`python -m mmkeras.compare`: several presets on one table of rows, side by side."""

import json
from collections.abc import Sequence
from pathlib import Path

from mmkeras.cli import run_program
from mmkeras.experiments import comparison_run as contests
from mmkeras.experiments.comparison_run import ComparisonArgs
from mmkeras.experiments.comparison_table import HOW
from mmkeras.files import write_text
from mmkeras.reports.tables import csv_text, markdown_table, share, with_interval
from mmkeras.training.run_folder import data_name

_FILES = ("compare.md", "compare.csv", "compare.json")
_COLUMNS = ("model", "accuracy, 95 %", "each seed", "parameters", "s", "MB")
_COLUMNS += ("ms a row", "of 32")


def main(argv: Sequence[str]) -> int:
    """Parses the command line and compares; returns the exit code."""
    parser = contests.build_parser(
        "mmkeras.compare",
        "Train several presets, each with several seeds and in a process of its own, "
        "and print one table of accuracy, size and cost. The same command goes on.",
    )
    contest = contests.parse_args(parser, argv)
    entries = [contests.plan_runs(contest, preset) for preset in contest.presets]
    with contests.locked_folder(contest, entries):
        contests.train_all(entries)
        rows = [entry.row() for entry in entries]
        simple = contests.baselines(entries)
        text = _page(rows, simple)
        _write(contest, rows, simple, text)
    print(f"\n{text}\n")
    print("\n".join(f"Written: {contest.folder / name}" for name in _FILES))
    return 1 if any(entry.error for entry in entries) else 0


def _write(contest: ComparisonArgs, rows, simple, text) -> None:
    content = {
        "data": data_name(contest.table),
        "settings": list(contest.flags),
        "how": HOW,
        "models": rows,
        "baselines": simple,
    }
    flat = [_flat(row, contest.seeds) for row in [*rows, *simple]]
    texts = [text + "\n", csv_text(flat), json.dumps(content, indent=1)]
    for name, written in zip(_FILES, texts, strict=True):
        write_text(Path(contest.folder) / name, written)


def _flat(row, seeds) -> dict:
    """One line of the CSV."""
    value = row["accuracy"] or {}
    same = ("parameters", "seconds", "peak_mb", "row_ms", "row_of_batch_ms", "error")
    return {
        "model": row["name"],
        "accuracy": value.get("value"),
        "low": value.get("low"),
        "high": value.get("high"),
        **{f"accuracy_seed{seed}": row["seeds"].get(seed) for seed in seeds},
        **{name: row.get(name) for name in same},
    }


# For people -----------------------------------------------------------------------


def _page(rows, simple) -> str:
    """The table, what its numbers are, and what has failed."""
    cells = [_cells(row) for row in [*rows, *simple]]
    notes = [
        f"{HOW} s and MB are the mean time and the most memory of a run, from the "
        "start of its program to its report. ms a row is that of the served export, "
        "from raw bytes, alone and in a batch of 32."
    ]
    if simple:
        notes[0] += f" The baselines are on the features of {simple[0]['of']}."
    notes += [f"{row['name']}: {row['error']}" for row in rows if row["error"]]
    return "\n\n".join([markdown_table(_COLUMNS, cells), *notes])


def _cells(row) -> list[str]:
    numbers = [
        form.format(row[name]) if row.get(name) is not None else ""
        for name, form in (
            ("parameters", "{:,}"),
            ("seconds", "{:.0f}"),
            ("peak_mb", "{:,.0f}"),
            ("row_ms", "{:.1f}"),
            ("row_of_batch_ms", "{:.2f}"),
        )
    ]
    each = " ".join(share(value) for value in row["seeds"].values())
    accuracy = with_interval(row["accuracy"]) or "failed"
    return [row["name"], accuracy, each, *numbers]


if __name__ == "__main__":
    run_program(main)
