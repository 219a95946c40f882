"""`python -m mmkeras.predict`: a table of any size through a trained model."""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmkeras.cli import Parser, run_program
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.schema import (
    LABEL,
    LABEL_SEPARATOR,
    PREDICTION_COLUMNS,
    PROBABILITIES,
    SCORE,
    STATUS,
    STATUS_SEPARATOR,
    UNREADABLE,
)

_BATCH_ROWS = 64


def main(argv: Sequence[str]) -> int:
    """Parses the command line and predicts; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.predict",
        description="Predict each row of a table; a bad row is said so, never dropped.",
    )
    parser.add_argument("--model", required=True, metavar="RUN", help="Run folder.")
    parser.add_argument("--data", required=True, metavar="FILE.csv", help="Table.")
    parser.add_argument("--output", required=True, metavar="FILE.csv", help="Result.")
    parsed = parser.parse_args(argv)
    table, output = Path(parsed.data), Path(parsed.output)
    if not table.is_file():
        raise UserError(f"--data '{table}' is no file; give the path of a CSV.")
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UserError(f"--output '{output}' must be a file in a folder that exists.")
    if output.exists() and output.samefile(table):
        raise UserError("--output is the table itself; give another file.")
    rows, bad = predict(Path(parsed.model), table, output)
    print(f"{rows:,} rows predicted, {bad:,} of them with something unreadable.")
    print(f"Predictions: {output}")
    return 0


def predict(folder: Path, table: Path, output: Path) -> tuple[int, int]:
    """Predicts a table in bounded memory; `output` appears whole, by a rename.

    Args:
        folder: Run folder.
        table: CSV with the modalities' columns; a label column is copied if there.
        output: CSV as predictions.csv: id, label, predicted, score, status and a
            column a class.

    Returns:
        The number of rows, and of those with anything unreadable.

    Raises:
        UserError: The run or the table cannot be used.
    """
    from tqdm import tqdm

    import_tensorflow()
    from mmkeras.data.example_reader import read_batches
    from mmkeras.export.inference import Predictor, load_trained

    trained_model = load_trained(folder)
    predictor, classes = Predictor(trained_model), trained_model.state.classes
    aside = output.with_name(f".{output.name}.{os.getpid()}")
    done = bad = 0
    try:
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*PREDICTION_COLUMNS, *classes])
            progress = tqdm(desc="Predicting", unit="row", disable=None)
            rows = (
                trained_model.config,
                predictor.modalities,
                trained_model.state.widths,
            )
            for batch in read_batches(table, *rows, _BATCH_ROWS):
                for row in _answers(predictor, batch):
                    writer.writerow(row)
                    bad += UNREADABLE in row[4]
                done += len(batch)
                progress.update(len(batch))
            progress.close()
        os.replace(aside, output)
    finally:
        aside.unlink(missing_ok=True)
    return done, bad


def _answers(predictor, batch) -> Iterator[list[str]]:
    from mmkeras.evaluation.predictions import merge_status

    data = {m: [r.data.get(m, b"") for r in batch] for m in predictor.modalities}
    outputs = predictor(data)
    for i, read in enumerate(batch):
        status = merge_status(outputs[STATUS][i].decode(), read.status)
        if read.row.problem:  # in what the row itself holds
            status += f"{STATUS_SEPARATOR}row {UNREADABLE}: {read.row.problem}"
        yield [
            read.row.id,
            LABEL_SEPARATOR.join(read.row.labels),
            outputs[LABEL][i].decode(),
            f"{outputs[SCORE][i]:.6f}",
            status,
            *(f"{p:.6f}" for p in outputs[PROBABILITIES][i]),
        ]


if __name__ == "__main__":
    run_program(main)
