"""Verification program: an export against the trained model it comes from."""

from collections.abc import Sequence
from pathlib import Path

from mmkeras.cli import Parser, run_program
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.files import check_file

MAX_ROWS = 256  # enough for every image and audio format of a table
_BATCH_ROWS = 32  # a few hundred MB with large images


def main(argv: Sequence[str]) -> int:
    """Parses the command line and proves; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.prove",
        description="Load an export as TF Serving does, and compare its outputs with "
        "those of the trained model.",
    )
    parser.add_argument(
        "--model", required=True, metavar="EXPORT", help="Folder of one version."
    )
    parser.add_argument("--run", required=True, metavar="RUN", help="Run folder.")
    parser.add_argument(
        "--rows",
        required=True,
        metavar="FILE.tfrecord",
        help=f"tf.Examples with the modalities' bytes; at most {MAX_ROWS} are read.",
    )
    parsed = parser.parse_args(argv)
    model = Path(parsed.model)
    if not (model / "saved_model.pb").is_file():
        raise UserError(f"--model '{model}' holds no saved_model.pb; give one version.")
    rows = check_file("--rows", parsed.rows, "the path of a TFRecord")
    print(prove_export(model, Path(parsed.run), rows))
    return 0


def prove_export(model: Path, run: Path, rows: Path) -> str:
    """Verifies an export on real rows, also with modalities missing or damaged.

    `rows` is a TFRecord of tf.Examples. Returns the number of batches and rows and the
    largest difference, in one line.

    Raises:
        UserError: There is no trained model, or no readable row.
        ExportMismatchError: The outputs of export and model differ.

    Example:
        prove_export(Path("runs/a/export/1"), Path("runs/a"), Path("rows.tfrecord"))
    """
    import_tensorflow()
    from mmkeras.export.inference import load_trained
    from mmkeras.export.verification import read_rows, verify_export

    trained_model = load_trained(run)
    columns = trained_model.preprocessor.columns
    batches = _batches(read_rows(rows, columns, MAX_ROWS), columns)
    tolerance = trained_model.config.export.tolerance
    largest = verify_export(model, trained_model, batches, tolerance)
    count = sum(len(next(iter(batch.values()))) for batch in batches.values())
    counts = f"{len(batches)} batches, {count:,} rows"
    return f"Proved: {counts}, largest difference {largest:.2g}."


def _batches(rows, columns) -> dict[str, dict[str, list[bytes | float]]]:
    """Returns the golden batches, and batches of all rows in their order."""
    from mmkeras.export.verification import golden_batches

    batches = golden_batches(rows, columns)
    for start in range(0, len(rows), _BATCH_ROWS):
        batch = rows[start : start + _BATCH_ROWS]
        title = f"rows {start + 1} to {start + len(batch)}"
        batches[title] = {name: [row[name] for row in batch] for name in columns}
    return batches


if __name__ == "__main__":
    run_program(main)
