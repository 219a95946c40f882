"""Batches across requests: tasks wait for others, and run as one.

Source: TensorFlow Serving 2.16.1 (batching_session) and TensorFlow (the shared batch
scheduler), for what a batch is, when it is ready, when a queue is full, and the texts
of errors. Other than there, a task that cannot run with its neighbours, or makes their
batch fail, runs alone: it fails nobody else.
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
from serving.server.engine.batch_merge import merge, rows_of, split
from serving.server.errors import ServingError, invalid_argument

# run(feeds, timeout in ms or 0) -> arrays of all rows
Run = Callable[[Mapping[str, np.ndarray], int], list[np.ndarray]]


class BatchScheduler:
    """Queues of tasks, and the threads that run them in batches."""

    def __init__(
        self,
        options: Batching,
        observe: Callable[[float], None] = lambda us: None,
        count: Callable[[], None] = lambda: None,
    ):
        """Starts the threads.

        Args:
            options: Sizes and times.
            observe: Takes the microseconds that each task has waited.
            count: Is called for each batch.
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
        run: Run,
        feeds: Mapping[str, np.ndarray],
        deadline: Deadline,
    ) -> list[np.ndarray]:
        """Runs the arrays in batches with those of others that have the same key.

        Raises:
            ServingError: INVALID_ARGUMENT for inputs that cannot be in a batch,
                UNAVAILABLE where the queue is full, RESOURCE_EXHAUSTED where the
                deadline passed in the queue; and whatever running raises.
        """
        rows = rows_of(feeds)
        self.check_size(rows)
        with self._changed:
            if self._closed:
                raise _unavailable("The batch scheduler is closed.")
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = _Queue(run, self._options)
            tasks = [_Task(part, deadline) for part in queue.parts(feeds, rows)]
            queue.add(tasks)
            self._changed.notify()
        try:
            answers = [_wait(task) for task in tasks]
        except ServingError:
            _wait_for_all(tasks)
            raise
        if len(answers) == 1:
            return answers[0]
        return [np.concatenate(arrays) for arrays in zip(*answers, strict=True)]

    def forget(self, key: Hashable) -> None:
        """Drops the queue of a key to which no task comes any more."""
        with self._changed:
            self._queues.pop(key, None)

    def close(self) -> None:
        """Ends the threads, when all that was queued is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def check_size(self, rows: int) -> None:
        """Refuses more rows than a task may have.

        Raises:
            ServingError: INVALID_ARGUMENT.
        """
        options = self._options
        if rows > options.max_batch_size:
            raise invalid_argument(
                f"Task size {rows} is larger than maximum input batch size "
                f"{options.max_batch_size}"
            )

    def _work(self) -> None:
        while (found := self._next()) is not None:
            queue, tasks = found
            self._count()
            now_s = time.monotonic()
            for task in tasks:
                self._observe((now_s - task.since_s) * 1e6)
            _process([t for t in tasks if t.begin()], queue.run, self._options)

    def _next(self) -> tuple["_Queue", list["_Task"]] | None:
        """Waits for a batch that is ready; None at the end."""
        with self._changed:
            while True:
                wait_s = None
                for key, queue in self._queues.items():
                    in_s = queue.ready_in_s(time.monotonic(), self._closed)
                    if in_s == 0:
                        # Of several queues the others come first the next time.
                        self._queues[key] = self._queues.pop(key)
                        self._changed.notify()  # there may be more for another thread
                        return queue, queue.take()
                    if in_s is not None:
                        wait_s = in_s if wait_s is None else min(wait_s, in_s)
                if self._closed and wait_s is None:
                    return None
                self._changed.wait(wait_s)


class _Task:
    """Arrays of one request, and the answer to come."""

    def __init__(self, feeds: Mapping[str, np.ndarray], deadline: Deadline):
        self.feeds, self.deadline = feeds, deadline
        self.rows = rows_of(feeds)
        self.since_s = time.monotonic()
        self.answer: Future[list[np.ndarray]] = Future()

    def begin(self) -> bool:
        """Whether anybody still wants the answer; then it can be taken back no more."""
        if self.deadline.is_over:
            self.answer.cancel()
        return self.answer.set_running_or_notify_cancel()


class _Queue:
    """Batches of tasks of one kind; the last one is open."""

    def __init__(self, run: Run, options: Batching):
        self.run, self._options = run, options
        self._batches: deque[list[_Task]] = deque([[]])
        self._open_rows, self._opened_s = 0, 0.0

    def parts(self, feeds, rows: int) -> Iterator[dict[str, np.ndarray]]:
        """Cuts a task that may be split: what the open batch takes, and the rest."""
        most = self._options.max_execution_batch_size
        end = most - self._open_rows
        if end <= 0 or not self._options.enable_large_batch_splitting:
            end = most
        start = 0
        while start < max(rows, 1):
            yield {name: a[start:end] for name, a in feeds.items()}
            start, end = end, end + most

    def add(self, tasks: list[_Task]) -> None:
        """Adds all tasks, or none.

        Raises:
            ServingError: UNAVAILABLE, as the queue is full.
        """
        most, there = self._options.max_execution_batch_size, len(self._batches)
        room = self._options.max_enqueued_batches - there
        fits_open = self._open_rows + tasks[0].rows <= most
        if len(tasks) - fits_open > room:
            raise _unavailable(
                "The batch scheduling queue to which this task was submitted is full; "
                f"currently {there} batches enqueued and max_enqueued_batches is "
                f"{self._options.max_enqueued_batches}"
            )
        for task in tasks:
            if self._open_rows + task.rows > most:
                self._batches.append([])
                self._open_rows = 0
            if not self._batches[-1]:
                self._opened_s = task.since_s
            self._batches[-1].append(task)
            self._open_rows += task.rows

    def ready_in_s(self, now_s: float, closed: bool) -> float | None:
        """Seconds until there is a batch to run; None: there is nothing."""
        if len(self._batches) > 1:
            return 0
        if not self._batches[-1]:
            return None
        full = self._open_rows >= self._options.max_execution_batch_size
        end_s = self._opened_s + self._options.batch_timeout_micros / 1e6
        return 0 if full or closed else max(0, end_s - now_s)

    def take(self) -> list[_Task]:
        """Returns the oldest batch."""
        if len(self._batches) == 1:
            self._batches.append([])
            self._open_rows = 0
        return self._batches.popleft()


def _wait(task: _Task) -> list[np.ndarray]:
    try:
        return task.answer.result(task.deadline.remaining_s())
    except CancelledError:  # found to be over when its turn came
        pass
    except TimeoutError:
        if not task.answer.cancel():  # it runs: the session may not be closed under it
            return task.answer.result()
    raise ServingError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "Run() timeout exceeded while waiting in batching queue",
    )


def _wait_for_all(tasks: list[_Task]) -> None:
    """Takes back what does not run yet, and lets the rest end."""
    running = [task.answer for task in tasks if not task.answer.cancel()]
    wait(running)


def _process(tasks: list[_Task], run: Run, options: Batching) -> None:
    """Gives every task its answer or its error."""
    if not tasks:
        return
    requests = [task.feeds for task in tasks]
    try:
        feeds = merge(requests, options)
        answers = split(run(feeds, _timeout_ms(tasks)), requests, rows_of(feeds))
    except Exception as error:  # each task has an error of its own, or none
        if len(tasks) == 1:
            tasks[0].answer.set_exception(error)
            return
        for task in tasks:
            _process([task], run, options)
        return
    for task, answer in zip(tasks, answers, strict=True):
        task.answer.set_result(answer)


def _unavailable(message: str) -> ServingError:
    return ServingError(grpc.StatusCode.UNAVAILABLE, message)


def _timeout_ms(tasks: list[_Task]) -> int:
    """Until the last of the deadlines; 0: one of the tasks has none."""
    left = [task.deadline.remaining_s() for task in tasks]
    if None in left:
        return 0
    return max(1, round(1000 * max(left)))
