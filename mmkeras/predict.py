"""Prediction program: one prediction per row of a table of any size."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmkeras.cli import Parser, print_warnings, run_program
from mmkeras.data.predictions_csv import (
    format_value,
    prediction_row,
    predictions_header,
)
from mmkeras.data.table import check_columns
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.files import atomic_csv, check_output_file, check_table
from mmkeras.schema import (
    GENERATED,
    LABEL,
    LABEL_SEPARATOR,
    PROBABILITIES,
    SCORE,
    STATUS,
    UNREADABLE,
    VALUE,
)


def main(argv: Sequence[str]) -> int:
    """Parses the command line and predicts; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.predict",
        description="Predict each row of a table; a bad row is marked, never dropped.",
    )
    parser.add_argument("--model", required=True, metavar="RUN", help="Run folder.")
    parser.add_argument("--data", required=True, metavar="FILE.csv", help="Table.")
    parser.add_argument("--output", required=True, metavar="FILE.csv", help="Result.")
    parsed = parser.parse_args(argv)
    table = check_table(parsed.data)
    output = Path(parsed.output)
    check_output_file(output, table)
    rows, bad = predict(Path(parsed.model), table, output)
    print(f"{rows:,} rows predicted, {bad:,} of them with something unreadable.")
    print(f"Predictions: {output}")
    return 0


def predict(folder: Path, table: Path, output: Path) -> tuple[int, int]:
    """Predicts a table in bounded memory and writes `output` atomically.

    `output` is a CSV with id, label, predicted, score, status and one column per class
    (none in regression, where the score is empty, and none of a generator, which
    predicts a text); a label column of the table is copied. Returns the number of rows,
    and of those with anything unreadable.

    Raises:
        UserError: The run or the table cannot be used.

    Example:
        predict(Path("runs/a"), Path("rows.csv"), Path("predictions.csv"))
    """
    import_tensorflow()
    from mmkeras.estimators.row_predictions import RowWarnings, predict_table
    from mmkeras.export.inference import Predictor, load_trained

    trained_model = load_trained(folder)
    config, warnings = trained_model.config, RowWarnings()
    check_columns(table, list(trained_model.preprocessor.columns))
    predictor = Predictor(trained_model)
    rows = unreadable = 0
    with atomic_csv(output) as writer:
        writer.writerow(predictions_header(trained_model.state.classes))
        for batch, outputs in predict_table(predictor, config, table, warnings):
            for row in _prediction_rows(batch, outputs):
                writer.writerow(row)
                unreadable += UNREADABLE in row[4]
            rows += len(batch)
    print_warnings(warnings.texts(predictor.columns))
    return rows, unreadable


def _prediction_rows(batch, outputs) -> Iterator[list[str]]:
    for i, read in enumerate(batch):
        if VALUE in outputs:
            label, probabilities = read.row.label_cell.strip(), ()
            predicted = format_value(outputs[VALUE][i]), math.nan
        else:
            label = LABEL_SEPARATOR.join(read.row.labels)
            name = GENERATED if GENERATED in outputs else LABEL
            predicted = outputs[name][i].decode(), outputs[SCORE][i]
            probabilities = outputs[PROBABILITIES][i] if name == LABEL else ()
        status = outputs[STATUS][i]
        yield prediction_row(read.row.id, label, *predicted, status, probabilities)


if __name__ == "__main__":
    run_program(main)
