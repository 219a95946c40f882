"""Prometheus metrics with TensorFlow Serving's names and text format.

prometheus_client cannot write them: it appends `_total` to each counter's name, also in
custom collectors, and TF Serving's names have no such suffix.

Source: tensorflow_serving/util/prometheus_exporter.cc and the definitions of the
metrics in TensorFlow Serving 2.16.1. Difference: `_sum` has all its digits, instead of
six.
"""

import os
import resource
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

_PREFIX = ":tensorflow:serving:"
_SESSION = f"{_PREFIX}batching_session:"
# Memory stays bounded: beyond these numbers of label sets per metric and of unknown
# model names, values are counted under _OTHER.
_MAX_CELLS, _MAX_UNKNOWN_NAMES = 10_000, 100
_OTHER = "other"
_MAX_LABEL = 256  # characters; a client can send a model name of a megabyte
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class _Metric:
    """Name, label names, and one cell of numbers per set of label values."""

    kind = "counter"

    def __init__(self, name: str, labels: Sequence[str], cell_size: int = 1):
        self.name, self.labels = name, tuple(labels)
        self._empty, self._lock = [0] * cell_size, threading.Lock()
        self._cells: dict[tuple[str, ...], list[float]] = {}

    def lines(self) -> list[str]:
        """Returns the metric in Prometheus' text format."""
        lines = [f"# TYPE {self.name} {self.kind}"]
        with self._lock:
            cells = [(key, list(cell)) for key, cell in sorted(self._cells.items())]
        for key, cell in cells:
            values = (value.translate(_ESCAPES) for value in key)
            pairs = zip(self.labels, values, strict=True)
            labels = [f'{name}="{value}"' for name, value in pairs]
            for suffix, label, number in self._samples(cell):
                text = ",".join(labels + label)
                lines.append(f"{self.name}{suffix}{{{text}}} {number:.17g}")
        return lines

    def _cell(self, values: dict[str, str]) -> list[float]:
        """Returns the cell of label values; the lock must be held."""
        if values.keys() != set(self.labels):
            raise TypeError(f"{self.name} has the labels {', '.join(self.labels)}.")
        key = self._key([str(values[label])[:_MAX_LABEL] for label in self.labels])
        if key not in self._cells and len(self._cells) >= _MAX_CELLS:
            key = (_OTHER,) * len(self.labels)
        return self._cells.setdefault(key, self._empty.copy())

    def _key(self, values: list[str]) -> tuple[str, ...]:
        return tuple(values)

    def _samples(self, cell: list[float]) -> Iterator[tuple[str, list[str], float]]:
        """Yields (suffix of the name, more labels, number)."""
        yield "", [], cell[0]


class Counter(_Metric):
    """Number that only grows."""

    def increment(self, by: int = 1, **labels: str) -> None:
        """Adds `by` to the cell of these labels; TypeError for unknown labels."""
        with self._lock:
            self._cell(labels)[0] += by


class RequestCounter(Counter):
    """Requests by model_name and status, with cells of only the first unknown names."""

    def __init__(self, name: str):
        super().__init__(name, ["model_name", "status"])
        self._models, self._unknown_names = set[str](), set[str]()

    def add_model(self, name: str) -> None:
        """Marks a name as that of a model."""
        with self._lock:
            self._models.add(name[:_MAX_LABEL])
            self._unknown_names.discard(name[:_MAX_LABEL])

    def _key(self, values):
        name, status = values
        if name not in self._models and name not in self._unknown_names:
            if len(self._unknown_names) >= _MAX_UNKNOWN_NAMES:
                return _OTHER, status
            self._unknown_names.add(name)
        return name, status


class Histogram(_Metric):
    """Counts of values below each limit; a value equal to a limit counts above it."""

    kind = "histogram"

    def __init__(self, name: str, labels: Sequence[str], limits: Sequence[float]):
        super().__init__(name, labels, len(limits) + 2)  # the last is the sum
        self._limits = limits

    def observe(self, value: float, **labels: str) -> None:
        """Counts a value in the cell of these labels; TypeError for unknown labels."""
        with self._lock:
            cell = self._cell(labels)
            cell[bisect_right(self._limits, value)] += 1
            cell[-1] += value

    def _samples(self, cell):
        *counts, total = cell
        bounds = [*(f"{limit:g}" for limit in self._limits), "+Inf"]
        for bound, count in zip(bounds, accumulate(counts), strict=True):
            yield "_bucket", [f'le="{bound}"'], count
        yield "_sum", [], total
        yield "_count", [], sum(counts)


def exponential(first: float, growth: float, count: int) -> list[float]:
    """Returns `count` limits, each `growth` times the previous one."""
    return list(accumulate([growth] * (count - 1), float.__mul__, initial=first))


class Metrics:
    """All metrics of one server; thread-safe. Latencies are in microseconds.

    APIs are "predict" over REST and "Predict" over gRPC, an entrypoint is "REST", and a
    status "OK" or "NOT_FOUND".
    """

    def __init__(self):
        latency = exponential(10.0, 1.8, 33)  # to about 24 minutes
        queuing = exponential(100.0, 1.2, 52)  # to about 1.1 s
        self.request_count = RequestCounter(f"{_PREFIX}request_count")
        self.request_latency = Histogram(
            f"{_PREFIX}request_latency", ["model_name", "API", "entrypoint"], latency
        )
        self.runtime_latency = Histogram(
            f"{_PREFIX}runtime_latency", ["model_name", "API", "runtime"], latency
        )
        self.request_example_counts = Histogram(  # examples per request
            f"{_PREFIX}request_example_counts", ["model"], exponential(1.0, 2.0, 15)
        )
        self.request_example_count_total = Counter(
            f"{_PREFIX}request_example_count_total", ["model"]
        )
        self.model_warmup_latency = Histogram(
            f"{_PREFIX}model_warmup_latency", ["model_path", "status"], latency
        )
        self.queuing_latency = Histogram(
            f"{_SESSION}queuing_latency", ["thread_pool_name"], queuing
        )
        self.wrapped_run_count = Counter(f"{_SESSION}wrapped_run_count", [])  # batches
        self._started_s = time.time()

    def render(self) -> str:
        """Returns Prometheus' page: TF Serving's metrics, then four of the process."""
        metrics = (m for m in vars(self).values() if isinstance(m, _Metric))
        lines = [m.lines() for m in sorted(metrics, key=lambda metric: metric.name)]
        return "\n".join([*sum(lines, []), *_process_lines(self._started_s)]) + "\n"


def _process_lines(started_s: float) -> Iterator[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    for name, kind, number in (
        ("cpu_seconds_total", "counter", usage.ru_utime + usage.ru_stime),
        ("open_fds", "gauge", len(os.listdir("/proc/self/fd"))),
        ("resident_memory_bytes", "gauge", pages * resource.getpagesize()),
        ("start_time_seconds", "gauge", started_s),
    ):
        yield f"# TYPE process_{name} {kind}"
        yield f"process_{name} {number:.17g}"
