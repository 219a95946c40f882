"""`python -m mmkeras.evaluate`: a trained model on a table with labels."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmkeras.cli import Parser, run_program
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.export.run_manifest import read_manifest
from mmkeras.reports.summary import metric_lines
from mmkeras.schema import HISTORY_FILE, REPORT_FILE, SPLITS, TEST
from mmkeras.training.run_folder import data_name


def main(argv: Sequence[str]) -> int:
    """Parses the command line and evaluates; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.evaluate",
        description="Measure a trained model on a table: metrics.json, "
        "predictions.csv and report.html.",
    )
    parser.add_argument("--model", required=True, metavar="RUN", help="Run folder.")
    parser.add_argument("--data", required=True, metavar="FILE.csv", help="Table.")
    parser.add_argument("--output", required=True, metavar="DIR", help="New folder.")
    parser.add_argument(
        "--split",
        choices=SPLITS,
        default=TEST,
        help="Rows to use, where the table has a split column; else all are.",
    )
    parser.add_argument(
        "--on-bad-row",
        choices=("fail", "reject", "absent"),
        default="fail",
        help="As for training.",
    )
    parsed = parser.parse_args(argv)
    table, output = Path(parsed.data), Path(parsed.output)
    if not table.is_file():
        raise UserError(f"--data '{table}' is no file; give the path of a CSV.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"--output '{output}' is there already; give a new folder.")
    metrics = evaluate_table(
        Path(parsed.model), table, output, parsed.split, parsed.on_bad_row
    )
    print("\n".join(metric_lines(metrics)))
    print(f"Report:  {output / REPORT_FILE}")
    return 0


def evaluate_table(
    folder: Path, table: Path, output: Path, split: str, on_bad_row: str
) -> dict:
    """Evaluates the model of a run folder on a table; returns the metrics.

    Raises:
        UserError: The run or the table cannot be used, or the table has labels that
            the model does not know.
    """
    import_tensorflow()
    from mmkeras.evaluation.evaluate import check_known_labels, evaluate
    from mmkeras.export.inference import load_trained

    trained_model = load_trained(folder)
    dataset, used = _ingest(trained_model, folder, table, split, on_bad_row)
    check_known_labels(trained_model, dataset, used)
    output.mkdir(parents=True, exist_ok=True)
    epochs = folder / HISTORY_FILE  # not there where the first one was interrupted
    history = json.loads(epochs.read_text()) if epochs.exists() else []
    return evaluate(
        trained_model,
        dataset,
        used,
        output,
        history=history,
        summary={"Model": str(folder), "Table": str(table), "Rows used": split},
        train_rows=None,
    )


def _ingest(trained_model, folder, table, split, on_bad_row):
    """Reads the rows to use; returns them and the split that they stand in."""
    from mmkeras.data.ingest import ingest

    names = ",".join(trained_model.state.modalities)
    config = trained_model.config
    config = replace(config, table=replace(config.table, modalities=names))
    manifest = read_manifest(folder)
    if manifest["data"] == data_name(table):
        # The run's own table: its rows stand where training put them.
        dataset = ingest(table, config)
        if dataset.content == manifest["content"]:
            return dataset, split
    config = replace(config, on_bad_row=on_bad_row)
    widths = trained_model.state.widths
    return ingest(table, config, only=split, widths=widths), TEST


if __name__ == "__main__":
    run_program(main)
