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
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

# Memory stays bounded: beyond these numbers of label sets per metric and of unknown
# model names, values are counted under _OTHER.
_MAX_CELLS, _MAX_UNKNOWN_NAMES = 10_000, 100
_OTHER = "other"
_MAX_LABEL = 256  # characters; a client can send a model name of a megabyte
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class _Metric(ABC):
    """Name, label names, and one cell per set of label values."""

    def __init__(self, name: str, labels: Sequence[str], kind: str):
        self.name, self.labels, self.kind = name, tuple(labels), kind
        self._cells: dict[tuple[str, ...], list] = {}
        self._lock = threading.Lock()

    def _cell(self, values: dict[str, str]) -> list:
        """Returns the cell of label values; the lock must be held."""
        if values.keys() != set(self.labels):
            raise TypeError(f"{self.name} has the labels {', '.join(self.labels)}.")
        key = self._key([str(values[label])[:_MAX_LABEL] for label in self.labels])
        if key not in self._cells and len(self._cells) >= _MAX_CELLS:
            key = (_OTHER,) * len(self.labels)
        return self._cells.setdefault(key, self._empty())

    def _key(self, values: Sequence[str]) -> tuple[str, ...]:
        return tuple(values)

    @abstractmethod
    def _empty(self) -> list:
        """Returns a new cell."""

    def lines(self) -> list[str]:
        """Returns the metric in Prometheus' text format."""
        lines = [f"# TYPE {self.name} {self.kind}"]
        with self._lock:
            cells = [(key, list(cell)) for key, cell in sorted(self._cells.items())]
        for key, cell in cells:
            values = (value.translate(_ESCAPES) for value in key)
            pairs = zip(self.labels, values, strict=True)
            lines += self._samples([f'{n}="{v}"' for n, v in pairs], cell)
        return lines

    @abstractmethod
    def _samples(self, labels: list[str], cell: list) -> list[str]:
        """Returns the lines of a cell."""


class Counter(_Metric):
    """Number that only grows."""

    def __init__(self, name: str, labels: Sequence[str]):
        super().__init__(name, labels, "counter")

    def increment(self, by: int = 1, **labels: str) -> None:
        """Adds `by` to the cell of these labels; TypeError for unknown labels."""
        with self._lock:
            self._cell(labels)[0] += by

    def _empty(self) -> list:
        return [0]

    def _samples(self, labels, cell):
        return [f"{self.name}{{{','.join(labels)}}} {cell[0]}"]


class RequestCounter(Counter):
    """Requests by model_name and status; clients choose the names.

    Models have their own cells. Unknown names have them too, as in TF Serving, but only
    the first ones.
    """

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

    def __init__(self, name: str, labels: Sequence[str], limits: Sequence[float]):
        super().__init__(name, labels, "histogram")
        self._limits = limits
        self._bounds = [f'le="{limit:g}"' for limit in limits] + ['le="+Inf"']

    def observe(self, value: float, **labels: str) -> None:
        """Counts a value in the cell of these labels; TypeError for unknown labels."""
        with self._lock:
            cell = self._cell(labels)
            cell[bisect_right(self._limits, value)] += 1
            cell[-1] += value

    def _empty(self) -> list:
        return [0] * len(self._bounds) + [0.0]  # the last is the sum

    def _samples(self, labels, cell):
        *counts, total = cell
        buckets = zip(self._bounds, accumulate(counts), strict=True)
        return [
            *(
                f"{self.name}_bucket{{{','.join([*labels, b])}}} {n}"
                for b, n in buckets
            ),
            f"{self.name}_sum{{{','.join(labels)}}} {total:.17g}",
            f"{self.name}_count{{{','.join(labels)}}} {sum(counts)}",
        ]


def exponential(first: float, growth: float, count: int) -> list[float]:
    """Returns `count` limits, each `growth` times the previous one."""
    return list(accumulate([growth] * (count - 1), float.__mul__, initial=first))


class Metrics:
    """All metrics of one server; thread-safe.

    Attributes:
        request_count: Requests by model_name and status, as "OK" or "NOT_FOUND".
        request_latency: Microseconds of successful requests, by model_name, API
            ("predict"; "Predict" over gRPC) and entrypoint ("REST").
        runtime_latency: Microseconds in TensorFlow, by model_name, API, runtime.
        request_example_counts: Examples per request, by model.
        request_example_count_total: Total examples, by model.
        model_warmup_latency: Microseconds of a warm-up, by model_path and status.
        queuing_latency: Microseconds in the batch queue, by thread_pool_name.
        wrapped_run_count: Batches that were run.
    """

    def __init__(self):
        serving = ":tensorflow:serving:"
        session = f"{serving}batching_session:"
        latency = exponential(10.0, 1.8, 33)  # microseconds, to about 24 minutes
        self.request_count = RequestCounter(f"{serving}request_count")
        self.request_latency = Histogram(
            f"{serving}request_latency", ["model_name", "API", "entrypoint"], latency
        )
        self.runtime_latency = Histogram(
            f"{serving}runtime_latency", ["model_name", "API", "runtime"], latency
        )
        self.request_example_counts = Histogram(
            f"{serving}request_example_counts", ["model"], exponential(1.0, 2.0, 15)
        )
        self.request_example_count_total = Counter(
            f"{serving}request_example_count_total", ["model"]
        )
        self.model_warmup_latency = Histogram(
            f"{serving}model_warmup_latency", ["model_path", "status"], latency
        )
        self.queuing_latency = Histogram(
            f"{session}queuing_latency",
            ["thread_pool_name"],
            exponential(100.0, 1.2, 52),  # microseconds, to about 1.1 s
        )
        self.wrapped_run_count = Counter(f"{session}wrapped_run_count", [])
        self._started_s = time.time()

    def render(self) -> str:
        """Returns Prometheus' page: TF Serving's metrics, then four of the process."""
        metrics = (m for m in vars(self).values() if isinstance(m, _Metric))
        lines = [m.lines() for m in sorted(metrics, key=lambda metric: metric.name)]
        return "\n".join([*sum(lines, []), *_process_lines(self._started_s)]) + "\n"


def _process_lines(started_s: float) -> list[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    numbers = {
        "cpu_seconds_total counter": usage.ru_utime + usage.ru_stime,
        "open_fds gauge": len(os.listdir("/proc/self/fd")),
        "resident_memory_bytes gauge": pages * resource.getpagesize(),
        "start_time_seconds gauge": started_s,
    }
    lines = []
    for text, number in numbers.items():
        lines += [f"# TYPE process_{text}", f"process_{text.split()[0]} {number:.17g}"]
    return lines
