"""Scheduler that batches concurrent requests.

Source: TensorFlow Serving 2.16.1 (batching_session) and TensorFlow (the shared batch
scheduler), for the size of a batch, when it is ready, when a queue is full, and the
texts of errors. Difference: if a batch fails, each of its tasks is run separately, so
that one task cannot fail the others.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import CancelledError, Future, TimeoutError, wait

import grpc
import numpy as np

from serving.server.configs import Batching
from serving.server.deadline import Deadline
from serving.server.engine.batch_merge import count_rows, merge, split
from serving.server.errors import ServingError, invalid_argument

# run(feeds, timeout in ms, 0 for none) -> output arrays
RunBatch = Callable[[Mapping[str, np.ndarray], int], list[np.ndarray]]


class BatchScheduler:
    """Queues of tasks, with threads that run them in batches."""

    def __init__(
        self,
        options: Batching,
        observe: Callable[[float], None] = lambda us: None,
        count: Callable[[], None] = lambda: None,
    ):
        """Starts the threads.

        Args:
            options: Batch sizes and timeouts.
            observe: Receives the microseconds that each task waited.
            count: Called once per batch.
        """
        self._options, self._observe, self._count = options, observe, count
        self._queues: dict[Hashable, _Queue] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{i}", daemon=True)
            for i in range(options.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(
        self,
        key: Hashable,
        run: RunBatch,
        feeds: Mapping[str, np.ndarray],
        deadline: Deadline,
    ) -> list[np.ndarray]:
        """Runs the arrays in a batch with other requests of the same key.

        Raises:
            ServingError: INVALID_ARGUMENT for inputs that cannot be batched,
                UNAVAILABLE if the queue is full, RESOURCE_EXHAUSTED if the deadline
                passed in the queue; also any error of `run`.
        """
        rows = count_rows(feeds)
        self.check_size(rows)
        with self._changed:
            if self._closed:
                raise _unavailable("The batch scheduler is closed.")
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = _Queue(run, self._options)
            tasks = [_Task(part, deadline) for part in queue.split_task(feeds, rows)]
            queue.add(tasks)
            self._changed.notify()
        try:
            results = [_wait(task) for task in tasks]
        except ServingError:  # the session of the other tasks must stay open
            wait([task.future for task in tasks if not task.future.cancel()])
            raise
        if len(results) == 1:
            return results[0]
        return [np.concatenate(parts) for parts in zip(*results, strict=True)]

    def remove_queue(self, key: Hashable) -> None:
        """Removes the queue of a key that is no longer used."""
        with self._changed:
            self._queues.pop(key, None)

    def queued_tasks(self, key: Hashable) -> int:
        """Returns the number of tasks in the queue of a key."""
        with self._changed:
            return self._queues[key].task_count if key in self._queues else 0

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
        while (batch := self._next()) is not None:
            queue, tasks = batch
            self._count()
            now_s = time.monotonic()
            for task in tasks:
                self._observe((now_s - task.created_s) * 1e6)
            if tasks := [task for task in tasks if task.start()]:
                _process(tasks, queue.run, self._options)

    def _next(self) -> tuple["_Queue", list["_Task"]] | None:
        """Waits for a ready batch; returns None after `close`."""
        with self._changed:
            while True:
                waits_s = []
                for key, queue in self._queues.items():
                    in_s = queue.ready_in_s(time.monotonic(), self._closed)
                    if in_s == 0:
                        # Round robin: this queue moves behind the others.
                        self._queues[key] = self._queues.pop(key)
                        self._changed.notify()  # another batch may be ready
                        return queue, queue.pop_batch()
                    if in_s is not None:
                        waits_s.append(in_s)
                if self._closed and not waits_s:
                    return None
                self._changed.wait(min(waits_s, default=None))


class _Task:
    """Arrays of one request, with the future of its outputs."""

    def __init__(self, feeds: Mapping[str, np.ndarray], deadline: Deadline):
        self.feeds, self.deadline = feeds, deadline
        self.rows = count_rows(feeds)
        self.created_s = time.monotonic()
        self.future: Future[list[np.ndarray]] = Future()

    def start(self) -> bool:
        """Marks the task as running; returns False if it was cancelled or expired."""
        if self.deadline.is_over:
            self.future.cancel()
        return self.future.set_running_or_notify_cancel()


class _Queue:
    """Batches of tasks with the same key; the last batch is open."""

    def __init__(self, run: RunBatch, options: Batching):
        self.run, self._options = run, options
        self._batches: deque[list[_Task]] = deque([[]])
        self._open_rows, self._opened_s = 0, 0.0

    @property
    def task_count(self) -> int:
        return sum(map(len, self._batches))

    def split_task(self, feeds, rows: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields the parts of a task, the first one as large as the open batch's rest.

        Without splitting there is one part.
        """
        limit = self._options.max_execution_batch_size
        free = limit - self._open_rows
        end = free if free and self._options.enable_large_batch_splitting else limit
        for start in (0, *range(end, rows, limit)):
            yield {name: a[start:end] for name, a in feeds.items()}
            end += limit

    def add(self, tasks: list[_Task]) -> None:
        """Adds all tasks, or raises ServingError (UNAVAILABLE) if the queue is full."""
        limit, enqueued = self._options.max_execution_batch_size, len(self._batches)
        free_batches = self._options.max_enqueued_batches - enqueued
        fits_open = self._open_rows + tasks[0].rows <= limit
        if len(tasks) - fits_open > free_batches:
            raise _unavailable(
                "The batch scheduling queue to which this task was submitted is full; "
                f"currently {enqueued} batches enqueued and max_enqueued_batches is "
                f"{self._options.max_enqueued_batches}"
            )
        for task in tasks:
            if self._open_rows + task.rows > limit:
                self._open_batch()
            if not self._batches[-1]:
                self._opened_s = task.created_s
            self._batches[-1].append(task)
            self._open_rows += task.rows

    def ready_in_s(self, now_s: float, closed: bool) -> float | None:
        """Returns the seconds until a batch is ready; None: the queue is empty."""
        if len(self._batches) > 1:
            return 0
        if not self._batches[-1]:
            return None
        full = self._open_rows >= self._options.max_execution_batch_size
        end_s = self._opened_s + self._options.batch_timeout_micros / 1e6
        return 0 if full or closed else max(0, end_s - now_s)

    def pop_batch(self) -> list[_Task]:
        """Removes and returns the oldest batch."""
        if len(self._batches) == 1:
            self._open_batch()
        return self._batches.popleft()

    def _open_batch(self) -> None:
        self._batches.append([])
        self._open_rows = 0


def _wait(task: _Task) -> list[np.ndarray]:
    try:
        return task.future.result(task.deadline.remaining_s())
    except TimeoutError:
        if not task.future.cancel():  # it is running: its session must stay open
            return task.future.result()
    except CancelledError:  # expired in the queue
        pass
    raise ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "Run() timeout exceeded while waiting in batching queue",
    )


def _process(tasks: list[_Task], run: RunBatch, options: Batching) -> None:
    """Sets the outputs or the error of every task."""
    requests = [task.feeds for task in tasks]
    left_s = [task.deadline.remaining_s() for task in tasks]
    timeout_ms = 0 if None in left_s else max(1, round(1000 * max(left_s)))
    try:
        feeds = merge(requests, options)
        results = split(run(feeds, timeout_ms), requests, count_rows(feeds))
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
