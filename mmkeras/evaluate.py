"""Evaluation program: metrics of a trained model on a table with labels."""

from collections.abc import Sequence
from pathlib import Path

from mmkeras.cli import Parser, print_warnings, run_program
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.files import check_output_folder, check_table
from mmkeras.reports.summary import metric_lines
from mmkeras.schema import REPORT_FILE, SPLITS, TEST


def main(argv: Sequence[str]) -> int:
    """Parses the command line and evaluates; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.evaluate",
        description="Measure a trained model on a table: metrics.json, "
        "predictions.csv, report.html and, of classes, confusion.csv.",
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
    from mmkeras.estimators import table_evaluation
    from mmkeras.export.inference import load_trained

    trained_model = load_trained(folder)
    return table_evaluation.evaluate_table(
        trained_model, folder, table, output, split, on_bad_row
    )


if __name__ == "__main__":
    run_program(main)
