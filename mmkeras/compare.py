"""Comparison program: accuracy, size and cost of several presets on one table."""

import json
from collections.abc import Sequence

from mmkeras.cli import run_program
from mmkeras.experiments import comparison_run
from mmkeras.experiments.comparison_run import ComparisonArgs
from mmkeras.experiments.comparison_table import INTERVAL_METHOD
from mmkeras.files import csv_text, write_text
from mmkeras.reports.score_text import ACCURACY
from mmkeras.reports.tables import format_interval, format_share, markdown_table
from mmkeras.training.run_folder import data_name

_FILES = ("compare.md", "compare.csv", "compare.json")
_COLUMNS = ("each seed", "parameters", "s", "MB")
_COLUMNS += ("ms per row", "in batches of 32")


def main(argv: Sequence[str]) -> int:
    """Parses the command line and compares; returns the exit code."""
    parser = comparison_run.build_parser(
        "mmkeras.compare",
        "Train several presets, each with several seeds, in separate processes, and "
        "print one table of accuracy, size and cost. The same command resumes.",
    )
    args = comparison_run.parse_args(parser, argv)
    models = comparison_run.plan_models(args)
    with comparison_run.locked_folder(args, models):
        comparison_run.train_all(models)
        rows = [model.row() for model in models]
        baselines = comparison_run.baseline_rows(models)
        score = next((m.score for m in models if m.runs), ACCURACY)
        text = _page(rows, baselines, score)
        _write(args, rows, baselines, text, score)
    print(f"\n{text}\n")
    print("\n".join(f"Written: {args.folder / name}" for name in _FILES))
    return 1 if any(model.error for model in models) else 0


def _write(args: ComparisonArgs, rows, baselines, text, score) -> None:
    content = {
        "data": data_name(args.table),
        "settings": list(args.flags),
        "how": INTERVAL_METHOD,
        "models": rows,
        "baselines": baselines,
    }
    flat = [_flat(row, args.seeds, score.key) for row in [*rows, *baselines]]
    table = csv_text([list(flat[0]), *(list(row.values()) for row in flat)])
    texts = [text + "\n", table, json.dumps(content, indent=1)]
    for name, file_text in zip(_FILES, texts, strict=True):
        write_text(args.folder / name, file_text)


def _flat(row, seeds, key) -> dict:
    """Returns a row of the CSV."""
    value = row.get(key) or {}
    names = ("parameters", "seconds", "peak_mb", "row_ms", "row_of_batch_ms", "error")
    return {
        "model": row["name"],
        key: value.get("value"),
        "low": value.get("low"),
        "high": value.get("high"),
        **{f"{key}_seed{seed}": row["seeds"].get(seed) for seed in seeds},
        **{name: row.get(name) for name in names},
    }


def _page(rows, baselines, score) -> str:
    """Returns the table with notes on its columns and on failures."""
    cells = [_cells(row, score.key) for row in [*rows, *baselines]]
    notes = [
        f"{INTERVAL_METHOD} s and MB are the mean time and the peak memory of a run, "
        "from the start of its program to its report. ms per row is the latency of the "
        "export, from raw bytes, for one row, and for a row in a batch of 32."
    ]
    if baselines:
        notes[0] += f" The baselines are on the features of {baselines[0]['of']}."
    notes += [f"{row['name']}: {row['error']}" for row in rows if row["error"]]
    header = ("model", f"{score.name}, 95 %", *_COLUMNS)
    return "\n\n".join([markdown_table(header, cells), *notes])


def _cells(row, key) -> list[str]:
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
    known = [value for value in row["seeds"].values() if value is not None]
    by_seed = " ".join(map(format_share, known))
    score = format_interval(row.get(key)) or "failed"
    return [row["name"], score, by_seed, *numbers]


if __name__ == "__main__":
    run_program(main)
