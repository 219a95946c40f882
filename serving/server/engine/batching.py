"""Scheduler that batches concurrent requests.

Source: TensorFlow Serving 2.16.1 (batching_session) and TensorFlow (the shared batch
scheduler), for the size of a batch, when it is ready, when a queue is full, and the
texts of errors. Difference: if a batch fails, each of its tasks is run separately, so
that one task cannot fail the others.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import CancelledError, Future, TimeoutError, wait
from dataclasses import dataclass, field
from itertools import pairwise

import grpc
import numpy as np

from serving.server.configs import Batching
from serving.server.deadline import Deadline
from serving.server.engine.batch_merge import Feeds, count_rows, merge, split
from serving.server.errors import ServingError, invalid_argument

# run(feeds, timeout in ms, 0 for none) -> output arrays
RunBatch = Callable[[Feeds, int], list[np.ndarray]]


class BatchScheduler:
    """Queues of tasks, with threads that run them in batches."""

    def __init__(
        self,
        options: Batching,
        observe: Callable[[float], None] = lambda us: None,
        count: Callable[[], None] = lambda: None,
    ):
        """Starts the threads.

        `observe` receives the microseconds that each task waited; `count` is called
        once per batch.
        """
        self._options, self._observe, self._count = options, observe, count
        self._queues: dict[Hashable, _Queue] = {}  # those with tasks
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{i}", daemon=True)
            for i in range(options.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(
        self, key: Hashable, run: RunBatch, feeds: Feeds, deadline: Deadline
    ) -> list[np.ndarray]:
        """Runs the arrays in a batch with other requests of the same key."""
        rows = count_rows(feeds)
        self.check_size(rows)
        with self._changed:
            if self._closed:
                raise _unavailable("The batch scheduler is closed.")
            queue = self._queues.get(key) or _Queue(run, self._options)
            tasks = queue.add(feeds, rows, deadline)
            self._queues[key] = queue
            self._changed.notify()
        try:
            results = [_wait(task) for task in tasks]
        except ServingError:  # the session of the other tasks must stay open
            wait([task.future for task in tasks if not task.future.cancel()])
            raise
        if len(results) == 1:
            return results[0]
        return [np.concatenate(parts) for parts in zip(*results, strict=True)]

    def queued_tasks(self, key: Hashable) -> int:
        """Returns the number of tasks in the queue of a key."""
        with self._changed:
            queue = self._queues.get(key)
            return sum(map(len, queue.batches)) if queue else 0

    def close(self) -> None:
        """Runs all queued tasks, then ends the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def check_size(self, rows: int) -> None:
        """Raises ServingError (INVALID_ARGUMENT) for rows above the batch size."""
        limit = self._options.max_batch_size
        if rows > limit:
            raise invalid_argument(
                f"Task size {rows} is larger than maximum input batch size {limit}"
            )

    def _work(self) -> None:
        while batch := self._next():
            run, tasks = batch
            self._count()
            now_s = time.monotonic()
            for task in tasks:
                self._observe((now_s - task.created_s) * 1e6)
            if tasks := [task for task in tasks if task.start()]:
                _process(tasks, run, self._options)

    def _next(self) -> tuple[RunBatch, list["_Task"]] | None:
        """Waits for a ready batch; returns None after `close`."""
        with self._changed:
            while self._queues or not self._closed:
                now_s, ready_s = time.monotonic(), []
                for key, queue in self._queues.items():
                    ready_s.append(queue.ready_s())
                    if self._closed or ready_s[-1] <= now_s:
                        batch = queue.batches.popleft()
                        del self._queues[key]
                        if queue.batches:  # round robin: it moves behind the others
                            self._queues[key] = queue
                        self._changed.notify()  # another batch may be ready
                        return queue.run, batch
                self._changed.wait(min(ready_s) - now_s if ready_s else None)
        return None


@dataclass(eq=False)
class _Task:
    """Arrays of one request or of a part, with the future of its outputs."""

    feeds: Feeds
    deadline: Deadline
    created_s: float = field(default_factory=time.monotonic)
    future: Future[list[np.ndarray]] = field(default_factory=Future)

    def start(self) -> bool:
        """Marks the task as running; returns False if it was cancelled or expired."""
        if self.deadline.is_over:
            self.future.cancel()
        return self.future.set_running_or_notify_cancel()


class _Queue:
    """Batches of tasks with the same key; the last batch is open."""

    def __init__(self, run: RunBatch, options: Batching):
        self.run, self._options = run, options
        self.batches: deque[list[_Task]] = deque([[]])
        self._open_rows = 0

    def add(self, feeds: Feeds, rows: int, deadline: Deadline) -> list[_Task]:
        """Adds a request as one task, or as parts that fill up the open batch."""
        limit = self._options.max_execution_batch_size
        free = limit - self._open_rows
        end = free if free and self._options.enable_large_batch_splitting else limit
        slices = list(pairwise([0, *range(end, rows, limit), rows]))
        enqueued, fits_open = len(self.batches), slices[0][1] <= free
        if enqueued + len(slices) - fits_open > self._options.max_enqueued_batches:
            raise _unavailable(
                "The batch scheduling queue to which this task was submitted is full; "
                f"currently {enqueued} batches enqueued and max_enqueued_batches is "
                f"{self._options.max_enqueued_batches}"
            )
        tasks = []
        for start, end in slices:
            part = {name: array[start:end] for name, array in feeds.items()}
            tasks.append(_Task(part, deadline))
            if self._open_rows + end - start > limit:
                self.batches.append([])
                self._open_rows = 0
            self.batches[-1].append(tasks[-1])
            self._open_rows += end - start
        return tasks

    def ready_s(self) -> float:
        """Returns the `time.monotonic()` from which the oldest batch is ready."""
        full = self._open_rows >= self._options.max_execution_batch_size
        if full or len(self.batches) > 1:
            return 0.0
        timeout_s = self._options.batch_timeout_micros / 1e6
        return self.batches[0][0].created_s + timeout_s


def timeout_ms(deadlines: Iterable[Deadline]) -> int:
    """Returns the time limit of a run for requests with these deadlines; 0: none."""
    left_s = [deadline.remaining_s() for deadline in deadlines]
    return 0 if None in left_s else max(1, round(1000 * max(left_s)))


def _wait(task: _Task) -> list[np.ndarray]:
    try:
        return task.future.result(task.deadline.remaining_s())
    except (TimeoutError, CancelledError):
        if not task.future.cancel():  # it is running: its session must stay open
            return task.future.result()
    raise ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "Run() timeout exceeded while waiting in batching queue",
    )


def _process(tasks: list[_Task], run: RunBatch, options: Batching) -> None:
    """Sets the outputs or the error of every task."""
    requests = [task.feeds for task in tasks]
    try:
        feeds = merge(requests, options)
        outputs = run(feeds, timeout_ms(task.deadline for task in tasks))
        results = split(outputs, requests, count_rows(feeds))
    except Exception as error:
        if len(tasks) == 1:
            tasks[0].future.set_exception(error)
        else:  # run each task separately to see which one fails
            for task in tasks:
                _process([task], run, options)
    else:
        for task, result in zip(tasks, results, strict=True):
            task.future.set_result(result)


def _unavailable(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.UNAVAILABLE, message)
