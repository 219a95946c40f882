"""Benchmark program: parameters and latency of a run's export."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path

from mmkeras.cli import Parser, run_program
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.export.run_manifest import read_manifest
from mmkeras.files import latest_version, write_text
from mmkeras.schema import EXPORT_DIR, SERVING_DEFAULT, TEST
from mmkeras.training.run_folder import DEMO_DATA, NO_ROWS

BATCH = 32
_ROWS = 256  # different test rows, so that no cache holds them
_MAX_CALLS, _MIN_CALLS, _MAX_S = 100, 5, 5.0  # limits of the timed calls
_WARMUP_CALLS = 3  # not timed: the first calls build the graph


def main(argv: Sequence[str]) -> int:
    """Parses the command line and measures; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.cost",
        description="Count a model's parameters, and time its export on real test rows "
        "on all cores, from raw bytes to the prediction.",
    )
    parser.add_argument("--model", required=True, metavar="RUN", help="Run folder.")
    parser.add_argument(
        "--output", metavar="FILE.json", help="JSON file with the results."
    )
    parsed = parser.parse_args(argv)
    cost = measure(Path(parsed.model))
    if parsed.output:
        write_text(Path(parsed.output), json.dumps(cost))
    print(f"Parameters:       {cost['parameters']:,}")
    print(
        f"A row alone:      {cost['row_ms']:.2f} ms (median of {cost['calls']} calls)"
    )
    print(f"A row among {BATCH}:   {cost['row_of_batch_ms']:.2f} ms")
    return 0


def measure(folder: Path) -> dict[str, float]:
    """Measures the export of a run folder.

    Returns:
        parameters, row_ms (median of calls with one row), row_of_batch_ms (per row,
        median of calls with 32), calls (number of timed calls with one row).

    Raises:
        UserError: There is no export, or its table is missing.

    Example:
        measure(Path("runs/a"))["row_ms"]
    """
    import_tensorflow()
    from mmkeras.export.inference import load_trained
    from mmkeras.export.saved_model_session import load_saved_model

    trained_model = load_trained(folder)
    version = latest_version(folder / EXPORT_DIR)
    if version is None:
        raise UserError(f"'{folder}' holds no export; finish its training first.")
    rows = cycle(_test_rows(trained_model, folder))
    columns = trained_model.preprocessor.columns

    with load_saved_model(version) as call:

        def predict(count: int) -> None:
            batch = list(islice(rows, count))
            call(SERVING_DEFAULT, {c: [row[c] for row in batch] for c in columns})

        row_s = _time_calls(lambda: predict(1))
        batch_s = _time_calls(lambda: predict(BATCH))
    return {
        "parameters": trained_model.model.count_params(),
        "row_ms": 1000 * statistics.median(row_s),
        "row_of_batch_ms": 1000 * statistics.median(batch_s) / BATCH,
        "calls": len(row_s),
    }


def _test_rows(trained_model, folder) -> list[dict[str, bytes | float]]:
    """Returns the values by column of test rows of the run."""
    from mmkeras.data.demo_tables import table_or_demo
    from mmkeras.data.ingest import ingest
    from mmkeras.data.stored_rows import COLUMNS, read_rows

    data = read_manifest(folder)["data"]
    if data == NO_ROWS:
        raise UserError(
            f"The run in '{folder}' has no table, of which rows would be timed. Make "
            "it again with --data."
        )
    config = trained_model.config
    table = table_or_demo(None if data == DEMO_DATA else Path(data), config.task)
    files = ingest(table, config).files(TEST)
    rows = read_rows(files, trained_model.preprocessor.columns.values()).take(_ROWS)
    return [row[COLUMNS] for row in rows.as_numpy_iterator()]


def _time_calls(call: Callable[[], None]) -> list[float]:
    """Returns the seconds of each timed call."""
    for _ in range(_WARMUP_CALLS):
        call()
    times, end = [], time.perf_counter() + _MAX_S
    while len(times) < _MIN_CALLS or (
        len(times) < _MAX_CALLS and time.perf_counter() < end
    ):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    run_program(main)
