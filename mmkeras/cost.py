"""`python -m mmkeras.cost`: what a trained model costs where it is served."""

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
from mmkeras.files import write_text
from mmkeras.schema import EXPORT_DIR, SERVING_DEFAULT, TEST
from mmkeras.training.run_folder import EMBEDDED

BATCH = 32
_ROWS = 256  # test rows, in turn, so that no cache knows them
_CALLS, _LEAST, _MOST_S = 100, 5, 5.0  # calls timed: so many, or for so long
_BEFORE = 3  # calls that are not timed: the first ones lay out the graph


def main(argv: Sequence[str]) -> int:
    """Parses the command line and measures; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.cost",
        description="Count a model's parameters, and time its export on real test rows "
        "from raw bytes to the answer, as TF Serving would run it, on all cores.",
    )
    parser.add_argument("--model", required=True, metavar="RUN", help="Run folder.")
    parser.add_argument("--output", metavar="FILE.json", help="Also writes a file.")
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
        parameters, row_ms (median of calls with one row), row_of_batch_ms (median of
        calls with 32, by row), calls (timed of the first).

    Raises:
        UserError: There is no export, or its table is not there any more.
    """
    import_tensorflow()
    from mmkeras.export.inference import load_trained
    from mmkeras.export.saved_model_session import loaded

    trained_model = load_trained(folder)
    versions = [p for p in (folder / EXPORT_DIR).glob("*") if p.name.isdigit()]
    if not versions:
        raise UserError(f"'{folder}' holds no export; let its training end first.")
    rows = cycle(_test_rows(trained_model, folder))
    modalities = trained_model.state.modalities

    with loaded(max(versions, key=lambda p: int(p.name))) as call:

        def answer(count: int) -> None:
            batch = list(islice(rows, count))
            call(SERVING_DEFAULT, {m: [row[m] for row in batch] for m in modalities})

        alone = _seconds(lambda: answer(1))
        among = _seconds(lambda: answer(BATCH))
    return {
        "parameters": trained_model.model.count_params(),
        "row_ms": 1000 * statistics.median(alone),
        "row_of_batch_ms": 1000 * statistics.median(among) / BATCH,
        "calls": len(alone),
    }


def _test_rows(trained_model, folder) -> list[dict[str, bytes]]:
    """Returns test rows of the run, bytes by modality, from the cache or the table."""
    from mmkeras.data import demo_dataset
    from mmkeras.data.ingest import ingest
    from mmkeras.data.input_pipeline import read_rows

    data, modalities = read_manifest(folder)["data"], trained_model.state.modalities
    if data == EMBEDDED:
        data = demo_dataset.make_dataset(demo_dataset.default_folder()) / "data.csv"
    files = ingest(Path(data), trained_model.config).files(TEST)
    return list(read_rows(files, modalities).take(_ROWS).as_numpy_iterator())


def _seconds(call: Callable[[], None]) -> list[float]:
    for _ in range(_BEFORE):
        call()
    times, end = [], time.perf_counter() + _MOST_S
    while len(times) < _LEAST or (len(times) < _CALLS and time.perf_counter() < end):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    run_program(main)
