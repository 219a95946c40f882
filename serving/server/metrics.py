"""What the server counts, under TensorFlow Serving's names and as it writes them.

prometheus_client is no help here: it appends `_total` to the name of each counter,
also to those of a collector of one's own, and TF Serving's names have none.

Source: tensorflow_serving/util/prometheus_exporter.cc and the definitions of the
metrics in TensorFlow Serving 2.16.1, which `Metrics` names one by one. The one
difference: `_sum` has all its digits here, and six in TF Serving.
"""

import os
import resource
import threading
import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

# Model names in requests are the clients' choice: what comes later than these many
# label sets of one metric is counted under _OTHER, so that memory stays bounded.
_MOST_CELLS = 10_000
_OTHER = "other"
_LONGEST_LABEL = 256  # characters; a client can name a model of a megabyte
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class _Metric(ABC):
    """A name, the names of its labels, and a cell for each set of their values."""

    def __init__(self, name: str, labels: Sequence[str], kind: str):
        self.name, self.labels, self.kind = name, tuple(labels), kind
        self._cells: dict[tuple[str, ...], list] = {}
        self._lock = threading.Lock()

    def _cell(self, values: dict[str, str]) -> list:
        """Returns the cell, with the lock held by the caller."""
        if values.keys() != set(self.labels):
            raise TypeError(f"{self.name} has the labels {', '.join(self.labels)}.")
        key = tuple(str(values[label])[:_LONGEST_LABEL] for label in self.labels)
        if key not in self._cells and len(self._cells) >= _MOST_CELLS:
            key = (_OTHER,) * len(self.labels)
        return self._cells.setdefault(key, self._empty())

    @abstractmethod
    def _empty(self) -> list:
        """Returns what a new cell holds."""

    def lines(self) -> list[str]:
        """Returns the lines of the metric on the page."""
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
    """A number that only grows."""

    def __init__(self, name: str, labels: Sequence[str]):
        super().__init__(name, labels, "counter")

    def increment(self, by: int = 1, **labels: str) -> None:
        """Adds `by` to the cell of these labels.

        Raises:
            TypeError: The labels are not those of the metric.
        """
        with self._lock:
            self._cell(labels)[0] += by

    def _empty(self) -> list:
        return [0]

    def _samples(self, labels, cell):
        return [f"{self.name}{{{','.join(labels)}}} {cell[0]}"]


class Histogram(_Metric):
    """How often a value was below each of the limits.

    A value that equals a limit is counted above it, as TensorFlow does.
    """

    def __init__(self, name: str, labels: Sequence[str], limits: Sequence[float]):
        super().__init__(name, labels, "histogram")
        self._limits = limits
        self._bounds = [f'le="{limit:g}"' for limit in limits] + ['le="+Inf"']

    def observe(self, value: float, **labels: str) -> None:
        """Counts a value in the cell of these labels.

        Raises:
            TypeError: The labels are not those of the metric.
        """
        with self._lock:
            cell = self._cell(labels)
            cell[bisect_right(self._limits, value)] += 1
            cell[-1] += value

    def _empty(self) -> list:
        return [0] * len(self._bounds) + [0.0]  # the last is the sum

    def _samples(self, labels, cell):
        *counts, total = cell
        lines = [
            f"{self.name}_bucket{{{','.join([*labels, bound])}}} {count}"
            for bound, count in zip(self._bounds, accumulate(counts), strict=True)
        ]
        lines.append(f"{self.name}_sum{{{','.join(labels)}}} {total:.17g}")
        lines.append(f"{self.name}_count{{{','.join(labels)}}} {sum(counts)}")
        return lines


def exponential(first: float, growth: float, count: int) -> list[float]:
    """Returns `count` limits, each `growth` times the one before."""
    return list(accumulate([growth] * (count - 1), float.__mul__, initial=first))


class Metrics:
    """All metrics of one server; each may be used from any thread.

    Attributes:
        request_count: Requests by model_name and by status, as "OK" or "NOT_FOUND".
        request_latency: Microseconds of the requests that were answered, by
            model_name, API ("predict"; "Predict" over gRPC) and entrypoint ("REST").
        runtime_latency: Microseconds within TensorFlow, by model_name, API, runtime.
        request_example_counts: Examples a request, by model.
        request_example_count_total: All examples, by model.
        model_warmup_latency: Microseconds of a warm-up, by model_path and status.
        queuing_latency: Microseconds that a request waited for its batch, by
            thread_pool_name.
        wrapped_run_count: Batches that were run.
    """

    def __init__(self):
        serving = ":tensorflow:serving:"
        session = f"{serving}batching_session:"
        latency = exponential(10.0, 1.8, 33)  # microseconds, to about 24 minutes
        self.request_count = Counter(
            f"{serving}request_count", ["model_name", "status"]
        )
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
        """Returns the page that Prometheus reads, metrics by their names.

        After TF Serving's come four numbers of the process, as Prometheus' own
        clients name them.
        """
        metrics = (m for m in vars(self).values() if isinstance(m, _Metric))
        lines = [m.lines() for m in sorted(metrics, key=lambda metric: metric.name)]
        return "\n".join([*sum(lines, []), *_process(self._started_s)]) + "\n"


def _process(started_s: float) -> list[str]:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[1])
    numbers = {
        ("process_cpu_seconds_total", "counter"): usage.ru_utime + usage.ru_stime,
        ("process_open_fds", "gauge"): len(os.listdir("/proc/self/fd")),
        ("process_resident_memory_bytes", "gauge"): pages * resource.getpagesize(),
        ("process_start_time_seconds", "gauge"): started_s,
    }
    lines = []
    for (name, kind), number in numbers.items():
        lines += [f"# TYPE {name} {kind}", f"{name} {number:.17g}"]
    return lines
