"""Latency and throughput of a served model, the reference one, beside direct calls.

Latency: gRPC requests of 1 and 8 rows, against calls of the same export in this
process. Throughput: a table through `serving.client` with batching and 32 requests of
one row in flight, against `mmkeras.predict` on the same table. With --export and
--table it is only the latency of that export, on the first rows of that table.
"""

import argparse
import csv
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from benchmarks.serving_load import start_server
from benchmarks.tables import write_table
from mmkeras.config.presets import resnet50_concat
from mmkeras.export.saved_model_session import load_saved_model
from mmkeras.predict import predict
from mmkeras.training import run_folder, steps
from serving.client import Client

# One batch runs at a time: a second one would take the cores from the first.
BATCHING = """
max_batch_size { value: 32 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 1 }
"""
IN_FLIGHT = 32


def train(folder: Path, table: Path) -> Path:
    """Trains the reference model for one epoch; the weights do not affect its speed."""
    preset = resnet50_concat()
    config = replace(
        preset,
        epochs=1,
        table=replace(preset.table, cache_dir=str(folder / "cache")),
        image=replace(preset.image, weights="none"),
        train=replace(preset.train, batch_size=16),
    )
    with run_folder.locked_folder(folder / "run"):
        steps.train(folder / "run", config, table)
    return folder / "run"


def read_rows(table: Path) -> list[dict[str, Path | str]]:
    """Returns the texts of a table and the paths of its files, row by row."""
    folder = table.parent
    with table.open(newline="") as file:
        return [
            {
                name: row[name] if name == "text" else folder / row[name]
                for name in ("text", "image", "audio")
                if name in row
            }
            for row in csv.DictReader(file)
        ]


def read_columns(rows: list[dict[str, Path | str]]) -> dict[str, list[bytes]]:
    """Returns the bytes of rows by column."""
    return {
        name: [x.encode() if name == "text" else x.read_bytes() for x in cells]
        for name, *cells in zip(rows[0], *(row.values() for row in rows), strict=True)
    }


def measure_latencies(export: Path, table: Path, pairs: int) -> None:
    """Prints the time of requests of 1 and 8 rows and of direct calls, in turn."""
    rows = read_rows(table)[:8]
    with (
        start_server("alone", export) as server,
        grpc.insecure_channel(server.grpc) as channel,
        load_saved_model(export / "1") as call,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for count in (1, 8):
            _measure_latency(stub, call, read_columns(rows[:count]), pairs)


def _measure_latency(stub, call, feeds: dict[str, list[bytes]], pairs: int) -> None:
    request = predict_pb2.PredictRequest(model_spec={"name": "mmkeras"})
    for name, column in feeds.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(column))

    def served():
        stub.Predict(request, timeout=600)

    def direct():
        call("serving_default", feeds)

    served(), direct()
    measured = [(seconds(served), seconds(direct)) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in measured)
    a, b = (1000 * statistics.median(times) for times in zip(*measured, strict=True))
    count = len(next(iter(feeds.values())))
    print(
        f"batch {count}: {a:,.1f} ms served, {b:,.1f} ms called directly, "
        f"ratio {statistics.median(ratios):.3f} (quartiles {ratios[pairs // 4]:.3f} to "
        f"{ratios[-1 - pairs // 4]:.3f} of {pairs} pairs)",
        flush=True,
    )


def throughput(folder: Path, table: Path, target: str, pairs: int) -> None:
    """Prints the rows per second, served and by `mmkeras.predict`, in turn."""
    rows = read_rows(table)
    few = write_table(folder / "few", IN_FLIGHT)

    def served():
        with Client(target, timeout_s=600) as client:
            assert len(list(client.stream(rows, in_flight=IN_FLIGHT))) == len(rows)

    def offline(rows: Path):
        output = folder / "predictions.csv"
        return seconds(lambda: predict(folder / "run", rows, output))

    served()
    measured = []
    for _ in range(pairs):
        served_per_s = len(rows) / seconds(served)
        # The difference removes the time to load the model.
        offline_s = offline(table) - offline(few)
        measured.append((served_per_s, (len(rows) - IN_FLIGHT) / offline_s))
    ratios = sorted(a / b for a, b in measured)
    a, b = (statistics.median(column) for column in zip(*measured, strict=True))
    print(
        f"{IN_FLIGHT} in flight, batched: {a:,.1f} rows/s served, {b:,.1f} by "
        f"mmkeras.predict, ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f} to "
        f"{ratios[-1]:.3f} in {pairs} pairs)",
        flush=True,
    )


def seconds(work: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=40, help="of requests and calls")
    parser.add_argument("--rows", type=int, default=256, help="of the table")
    parser.add_argument("--runs", type=int, default=3, help="through the table")
    parser.add_argument("--export", type=Path, help="folder of another model's export")
    parser.add_argument(
        "--table", type=Path, help="with its columns: text, image, audio"
    )
    arguments = parser.parse_args()
    if (arguments.export is None) != (arguments.table is None):
        parser.error("Give both --export and --table, or neither.")
    if arguments.export:
        measure_latencies(arguments.export, arguments.table, arguments.pairs)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_table(folder / "rows", arguments.rows)
        export = train(folder, table) / "export"
        measure_latencies(export, table, arguments.pairs)
        with start_server("batched", export, batching=BATCHING) as server:
            throughput(folder, table, server.grpc, arguments.runs)


if __name__ == "__main__":
    main()
