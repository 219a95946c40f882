"""Time and memory of an ingest plan, the part that one process does for all workers.

    python -m benchmarks.plan [--rows 200000]

Image and audio files are missing, since a plan opens none. One table has a split
column; the rows of the other are divided.
"""

import argparse
import csv
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from mmkeras.config.presets import small_concat
from mmkeras.data.ingest_plan import plan_ingest

_CLASSES, _SPLITS = 20, ("train",) * 8 + ("val", "test")


def write(path: Path, rows: int, split: bool) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "image", "audio", "label", "split"])
        for i in range(rows):
            name = f"{i // 1000:04d}/{i:09d}"
            label = f"class {i * 7919 % _CLASSES}"
            cells = [i, f"a short sentence about row {i}", f"images/{name}.jpg"]
            cells += [f"audio/{name}.wav", label, _SPLITS[i % 10] if split else ""]
            writer.writerow(cells)
    return path


def measure(rows: int, split: bool) -> str:
    config = small_concat()
    with tempfile.TemporaryDirectory() as folder:
        plan_ingest(write(Path(folder) / "few.csv", 100, True), config)  # the imports
        table = write(Path(folder) / "many.csv", rows, split)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        plan = plan_ingest(table, config)
        took_s = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return (
            f"{'split column' if split else 'divided'}, {rows:,} rows: "
            f"{1e6 * took_s / rows:.0f} microseconds and "
            f"{1e3 * (after - before) / rows:.0f} bytes per row at the peak "
            f"(table {table.stat().st_size / rows:.0f}), {len(plan.shards)} shards"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows
    for split in (True, False):  # separate processes, for separate peaks
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            print(pool.submit(measure, rows, split).result(), flush=True)


if __name__ == "__main__":
    main()
