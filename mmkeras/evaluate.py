"""Evaluation program: metrics of a trained model on a table with labels."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmkeras.cli import Parser, print_warnings, run_program
from mmkeras.data.table import check_columns
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.export.run_manifest import read_manifest
from mmkeras.files import check_output_folder, check_table, write_text
from mmkeras.reports.summary import metric_lines
from mmkeras.schema import HISTORY_FILE, REPORT_FILE, SPLITS, TEST, WARNINGS_FILE
from mmkeras.training.run_folder import data_name


def main(argv: Sequence[str]) -> int:
    """Parses the command line and evaluates; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.evaluate",
        description="Measure a trained model on a table: metrics.json, "
        "confusion.csv, predictions.csv and report.html.",
    )
    parser.add_argument("--model", required=True, metavar="RUN", help="Run folder.")
    parser.add_argument("--data", required=True, metavar="FILE.csv", help="Table.")
    parser.add_argument("--output", required=True, metavar="DIR", help="New folder.")
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default=TEST,
        help="Split to use; all rows if the table has no split column.",
    )
    parser.add_argument(
        "--on-bad-row",
        choices=("fail", "reject", "absent"),
        default="fail",
        help="What to do about unreadable rows, as for training.",
    )
    parsed = parser.parse_args(argv)
    table = check_table(parsed.data)
    output = Path(parsed.output)
    check_output_folder(output)
    metrics = evaluate_table(
        Path(parsed.model), table, output, parsed.split, parsed.on_bad_row
    )
    print_warnings(metrics["warnings"])
    print("\n".join(metric_lines(metrics)))
    print(f"Report:  {output / REPORT_FILE}")
    return 0


def evaluate_table(
    folder: Path, table: Path, output: Path, split: str, on_bad_row: str
) -> dict:
    """Evaluates the model of a run folder on a table; returns the metrics.

    Raises:
        UserError: The run or the table cannot be used, or a label is unknown to the
            model.

    Example:
        evaluate_table(Path("runs/a"), Path("rows.csv"), Path("new"), "test", "fail")
    """
    import_tensorflow()
    from mmkeras.data.dataset import bad_rows_csv
    from mmkeras.evaluation.evaluate import check_known_labels, evaluate
    from mmkeras.export.inference import load_trained

    trained_model = load_trained(folder)
    dataset, dataset_split = _ingest(trained_model, folder, table, split, on_bad_row)
    check_known_labels(trained_model, dataset, dataset_split)
    output.mkdir(parents=True, exist_ok=True)
    if dataset.suspicious:
        write_text(output / WARNINGS_FILE, bad_rows_csv(dataset.suspicious))
    path = folder / HISTORY_FILE  # absent after an interrupt in the first epoch
    history = json.loads(path.read_text()) if path.exists() else []
    return evaluate(
        trained_model,
        dataset,
        dataset_split,
        output,
        history=history,
        summary={"Model": str(folder), "Table": str(table), "Rows used": split},
        train_rows=None,
    )


def _ingest(trained_model, folder, table, split, on_bad_row):
    """Returns the data set with the rows to use, and their split in it."""
    from mmkeras.data.ingest import ingest

    config = trained_model.config
    check_columns(table, list(trained_model.preprocessor.columns))
    manifest = read_manifest(folder)
    if manifest["data"] == data_name(table):
        # The table of the run: its cached data set has the same splits.
        dataset = ingest(table, config)
        if dataset.content == manifest["content"]:
            return dataset, split
    config = replace(config, on_bad_row=on_bad_row)
    return ingest(table, config, only=split), TEST


if __name__ == "__main__":
    run_program(main)
