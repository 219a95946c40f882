import threading
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from contextlib import closing, contextmanager

import grpc
import numpy as np
import pytest

from serving.server.configs import Batching
from serving.server.deadline import Deadline
from serving.server.engine.batching import BatchScheduler
from serving.server.errors import invalid_argument
from tests.serving.server.assertions import WAIT_S, serving_error, wait_until

SPLIT = {"enable_large_batch_splitting": True}


class Doubler:
    """Doubles numbers, records its batches, and waits for `go`."""

    def __init__(self):
        self.batches, self.timeouts_ms = [], []
        self.go, self.started = threading.Event(), threading.Semaphore(0)
        self.go.set()

    def __call__(self, feeds, timeout_ms):
        self.batches.append(feeds["x"].tolist())
        self.timeouts_ms.append(timeout_ms)
        self.started.release()
        if (feeds["x"] < 0).any():
            raise invalid_argument("negative")
        assert self.go.wait(WAIT_S)
        return [2 * feeds["x"]]


@pytest.fixture
def doubler():
    return Doubler()


@contextmanager
def open_scheduler(**options):
    waits_us, batches = [], []
    batching = Batching(**{"num_batch_threads": 1, "max_batch_size": 4, **options})
    scheduler = BatchScheduler(batching, waits_us.append, lambda: batches.append(1))
    scheduler.waits_us, scheduler.batches = waits_us, batches
    with closing(scheduler):
        yield scheduler


def run(scheduler, doubler, *rows, key="k", deadline=None):
    feeds, deadline = {"x": np.array(rows)}, deadline or Deadline(WAIT_S)
    return scheduler.run(key, doubler, feeds, deadline)[0].tolist()


@contextmanager
def busy_queue(doubler, **options):
    """Yields a scheduler whose only thread is busy, and a function that queues."""
    doubler.go.clear()
    with open_scheduler(**options) as scheduler, ThreadPoolExecutor(32) as pool:

        def put(*rows, key="k", tasks=1, **settings):
            expected = scheduler.queued_tasks(key) + tasks
            future = pool.submit(run, scheduler, doubler, *rows, key=key, **settings)
            wait_until(lambda: scheduler.queued_tasks(key) >= expected)
            return future

        pool.submit(run, scheduler, doubler, 0, key="busy")
        assert doubler.started.acquire(timeout=WAIT_S)
        try:
            yield scheduler, put
        finally:
            doubler.go.set()


@pytest.mark.parametrize(
    ("requests", "options", "batches"),
    [
        ([(1, 2), (3,)], {}, [[1, 2, 3]]),
        ([(1, 2), (3,), (4, 5)], {}, [[1, 2, 3], [4, 5]]),
        ([([1, 2],), (3,)], {}, [[[1, 2]], [3]]),  # shapes differ
        (
            [(1,), (2, 3, 4, 5, 6, 7, 8, 9)],
            {"max_batch_size": 8, "max_execution_batch_size": 4, **SPLIT},
            [[1, 2, 3, 4], [5, 6, 7, 8], [9]],
        ),
    ],
)
def test_queued_requests_fill_batches_and_get_their_own_results(
    doubler, requests, options, batches
):
    with busy_queue(doubler, **options) as (scheduler, put):
        futures = [put(*rows, tasks=-(-len(rows) // 3)) for rows in requests]
    for rows, future in zip(requests, futures, strict=True):
        assert future.result(WAIT_S) == (2 * np.array(rows)).tolist()
    assert doubler.batches[1:] == batches
    assert len(scheduler.waits_us) >= 1 + len(requests)
    assert all(us > 0 for us in scheduler.waits_us)


@pytest.mark.parametrize(
    ("rows", "timeout_us", "least_us"),
    [((1,), 20_000, 20_000), ((1, 2, 3, 4), 10**9, 0), ((), 0, 0)],
)
def test_only_a_part_of_a_batch_waits_for_the_timeout(
    doubler, rows, timeout_us, least_us
):
    with open_scheduler(batch_timeout_micros=timeout_us) as scheduler:
        assert run(scheduler, doubler, *rows) == [2 * row for row in rows]
    assert least_us <= scheduler.waits_us[0] and len(scheduler.batches) == 1


def test_queued_requests_are_run_when_the_scheduler_closes(doubler):
    with open_scheduler(batch_timeout_micros=10**9) as scheduler:
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(run, scheduler, doubler, 1)
            wait_until(lambda: scheduler.queued_tasks("k"))
            scheduler.close()
            assert late.result(WAIT_S) == [2]
        assert "closed" in serving_error(run, scheduler, doubler, 1).message


@pytest.mark.parametrize(
    ("options", "batches"), [({}, 2), ({"max_execution_batch_size": 3, **SPLIT}, 1)]
)
def test_a_full_queue_refuses_all_of_a_request_until_it_is_free(
    doubler, options, batches
):
    with busy_queue(doubler, max_enqueued_batches=2, **options) as (scheduler, put):
        futures = [put(1, 2, 3) for _ in range(batches)]
        error = serving_error(run, scheduler, doubler, 5, 6, 7, 8)
        assert error.code is grpc.StatusCode.UNAVAILABLE
        text = f"currently {batches} batches enqueued and max_enqueued_batches is 2"
        assert error.message.endswith(text)
        doubler.go.set()
        assert [f.result(WAIT_S) for f in futures] == [[2, 4, 6]] * batches
        assert run(scheduler, doubler, 5) == [10]
    assert doubler.batches[1:] == [*[[1, 2, 3]] * batches, [5]]


def test_a_request_above_all_free_batches_leaves_no_queue(doubler):
    options = {"max_execution_batch_size": 1, "max_enqueued_batches": 1, **SPLIT}
    with open_scheduler(**options) as scheduler:
        error = serving_error(run, scheduler, doubler, 1, 2)
        assert error.code is grpc.StatusCode.UNAVAILABLE
        assert run(scheduler, doubler, 5, key="other") == [10]
        assert run(scheduler, doubler, 5) == [10]


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_a_request_that_ends_in_the_queue_is_not_run(doubler, is_cancelled):
    deadline = Deadline(WAIT_S if is_cancelled else 0.05)
    with busy_queue(doubler) as (_, put):
        late = put(7, deadline=deadline)
        if is_cancelled:
            deadline.cancel()
        wait_until(lambda: deadline.is_over)
        other = put(8)
    error = serving_error(late.result, WAIT_S)
    assert other.result(WAIT_S) == [16] and doubler.batches[1:] == [[8]]
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.message == "Run() timeout exceeded while waiting in batching queue"


def test_a_running_request_is_awaited_past_its_deadline(doubler):
    doubler.go.clear()
    with open_scheduler() as scheduler, ThreadPoolExecutor(1) as pool:
        late = pool.submit(run, scheduler, doubler, 1, deadline=Deadline(1))
        assert doubler.started.acquire(timeout=WAIT_S)
        with pytest.raises(TimeoutError):
            late.result(1.2)  # its session must stay open
        doubler.go.set()
        assert late.result(WAIT_S) == [2]
    assert 0 < doubler.timeouts_ms[0] <= 1000


def test_a_batch_has_the_latest_deadline_and_fails_only_its_failing_request(doubler):
    with busy_queue(doubler) as (_, put):
        good, bad = (put(n, deadline=Deadline(n * n * WAIT_S)) for n in (2, -1))
    assert 3000 * WAIT_S < doubler.timeouts_ms[1] <= 4000 * WAIT_S
    assert good.result(WAIT_S) == [4]
    assert serving_error(bad.result, WAIT_S).message == "negative"


def test_a_request_above_the_batch_size_is_refused(doubler):
    text = "^Task size 5 is larger than maximum input batch size 4$"
    with open_scheduler() as scheduler:
        error = serving_error(run, scheduler, doubler, *range(5), match=text)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT


def test_a_failing_part_fails_the_request_after_all_parts_have_ended(doubler):
    doubler.go.clear()
    options = {"num_batch_threads": 2, "max_execution_batch_size": 1, **SPLIT}
    with open_scheduler(**options) as scheduler, ThreadPoolExecutor(1) as pool:
        failing = pool.submit(run, scheduler, doubler, -1, 2)
        for _ in range(2):
            assert doubler.started.acquire(timeout=WAIT_S)
        with pytest.raises(TimeoutError):
            failing.result(0.2)  # the session of the other part must stay open
        doubler.go.set()
        assert serving_error(failing.result, WAIT_S).message == "negative"


def test_keys_take_turns(doubler):
    with busy_queue(doubler, max_batch_size=1) as (_, put):
        for value, key in ((1, "a"), (2, "a"), (3, "a"), (9, "b")):
            put(value, key=key)
    assert doubler.batches.index([9]) <= 2


def test_many_threads_get_their_own_results(doubler):
    with open_scheduler(num_batch_threads=4, max_batch_size=16) as scheduler:
        with ThreadPoolExecutor(32) as pool:
            requests = [(i, i + 1) for i in range(1000)]
            results = pool.map(lambda rows: run(scheduler, doubler, *rows), requests)
            assert list(results) == [[2 * a, 2 * b] for a, b in requests]
    assert len(doubler.batches) < 1000
