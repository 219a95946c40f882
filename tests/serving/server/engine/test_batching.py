import threading
import time
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from contextlib import contextmanager

import grpc
import numpy as np
import pytest

from serving.server.configs import Batching
from serving.server.deadline import Deadline
from serving.server.engine.batching import BatchScheduler
from serving.server.errors import ServingError

LONG_S = 30


class Doubler:
    """Doubles numbers; remembers its batches, and waits where it is told to."""

    def __init__(self):
        self.batches, self.timeouts_ms = [], []
        self.go, self.began = threading.Event(), threading.Event()
        self.go.set()

    def __call__(self, feeds, timeout_ms):
        self.batches.append(feeds["x"].tolist())
        self.timeouts_ms.append(timeout_ms)
        self.began.set()
        assert self.go.wait(LONG_S)
        if (feeds["x"] < 0).any():
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "negative")
        return [2 * feeds["x"]]


@contextmanager
def scheduler(**options):
    waits_us, counted = [], []
    options = {"num_batch_threads": 1, "max_batch_size": 4, **options}
    found = BatchScheduler(
        Batching(**options), waits_us.append, lambda: counted.append(1)
    )
    found.waits_us, found.counted = waits_us, counted
    try:
        yield found
    finally:
        found.close()


def ask(batches, run, *rows, key="k", deadline=None):
    feeds = {"x": np.array(rows)}
    return batches.run(key, run, feeds, deadline or Deadline(LONG_S))[0].tolist()


@contextmanager
def behind(run, batches):
    """Lets the only thread be busy with a batch, so that others wait in the queue."""
    run.go.clear()
    with ThreadPoolExecutor(32) as pool:
        pool.submit(ask, batches, run, 0, key="busy")
        assert run.began.wait(LONG_S)
        try:
            yield pool
        finally:
            run.go.set()


def queued(batches, count, key="k"):
    """Waits until so many tasks stand in a queue."""
    for _ in range(3000):
        with batches._changed:
            queue = batches._queues.get(key)
            there = sum(map(len, queue._batches)) if queue else 0
        if there >= count:
            return
        time.sleep(0.01)
    raise AssertionError(f"{there} of {count}")


def test_requests_that_wait_run_as_one_batch_and_get_their_own_answers():
    run = Doubler()
    with scheduler() as batches:
        with behind(run, batches) as pool:
            one = pool.submit(ask, batches, run, 1, 2)
            queued(batches, 1)
            two = pool.submit(ask, batches, run, 3)
            queued(batches, 2)
        assert one.result(LONG_S) == [2, 4] and two.result(LONG_S) == [6]
        assert sorted(map(len, run.batches)) == [1, 3]
        assert len(batches.waits_us) == 3 and all(us > 0 for us in batches.waits_us)
        assert len(batches.counted) == 2


def test_a_batch_is_never_larger_than_the_largest():
    run = Doubler()
    with scheduler() as batches:
        with behind(run, batches) as pool:
            found = [pool.submit(ask, batches, run, i, i) for i in range(1, 8)]
            queued(batches, 7)
        assert [one.result(LONG_S) for one in found] == [
            [2 * i, 2 * i] for i in range(1, 8)
        ]
    assert [len(batch) for batch in run.batches[1:]] == [4, 4, 4, 2]


def test_a_lone_request_waits_for_others_no_longer_than_it_may():
    run = Doubler()
    with scheduler(batch_timeout_micros=20_000) as batches:
        assert ask(batches, run, 1) == [2]
    assert 20_000 <= batches.waits_us[0]


def test_a_full_batch_does_not_wait():
    run = Doubler()
    with scheduler(batch_timeout_micros=10**9) as batches:
        assert ask(batches, run, 1, 2, 3, 4) == [2, 4, 6, 8]


def test_what_is_queued_when_the_scheduler_closes_is_answered():
    run = Doubler()
    with scheduler(batch_timeout_micros=10**9) as batches:
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(ask, batches, run, 1)
            queued(batches, 1)
            batches.close()
            assert late.result(LONG_S) == [2]
        with pytest.raises(ServingError, match="closed"):
            ask(batches, run, 1)


def test_a_full_queue_refuses_in_tensorflow_servings_words():
    run = Doubler()
    with scheduler(max_enqueued_batches=2) as batches:
        with behind(run, batches) as pool:
            found = [pool.submit(ask, batches, run, 1, 2, 3, 4) for _ in range(2)]
            queued(batches, 2)
            with pytest.raises(ServingError) as caught:
                ask(batches, run, 5)
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert caught.value.message == (
            "The batch scheduling queue to which this task was submitted is full; "
            "currently 2 batches enqueued and max_enqueued_batches is 2"
        )
        assert [one.result(LONG_S) for one in found] == [[2, 4, 6, 8]] * 2
        assert ask(batches, run, 5) == [10]  # it is over


def test_a_request_whose_time_is_over_in_the_queue_is_not_run():
    run = Doubler()
    with scheduler() as batches:
        with behind(run, batches) as pool:
            with pytest.raises(ServingError) as caught:
                ask(batches, run, 7, deadline=Deadline(0.05))
            other = pool.submit(ask, batches, run, 8)
            queued(batches, 2)
        assert other.result(LONG_S) == [16]
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.message == (
        "Run() timeout exceeded while waiting in batching queue"
    )
    assert run.batches[1:] == [[8]]


def test_a_request_whose_client_went_away_is_not_run():
    run, gone = Doubler(), Deadline(LONG_S)
    with scheduler() as batches:
        with behind(run, batches) as pool:
            left = pool.submit(ask, batches, run, 7, deadline=gone)
            queued(batches, 1)
            gone.cancel()
            run.go.set()
        with pytest.raises(ServingError):
            left.result(LONG_S)
    assert run.batches == [[0]]


def test_what_runs_already_is_waited_for_past_the_deadline():
    run = Doubler()
    run.go.clear()
    with scheduler() as batches, ThreadPoolExecutor(1) as pool:
        late = pool.submit(ask, batches, run, 1, deadline=Deadline(0.05))
        assert run.began.wait(LONG_S)
        with pytest.raises(TimeoutError):
            late.result(0.5)  # the session may not be closed under it
        run.go.set()
        assert late.result(LONG_S) == [2]
    assert 0 < run.timeouts_ms[0] <= 50


def test_the_last_of_the_deadlines_is_the_batches():
    run = Doubler()
    with scheduler() as batches:
        with behind(run, batches) as pool:
            pool.submit(ask, batches, run, 1, deadline=Deadline(LONG_S))
            pool.submit(ask, batches, run, 2, deadline=Deadline(2 * LONG_S))
            queued(batches, 2)
    assert 1000 * LONG_S < run.timeouts_ms[1] <= 2000 * LONG_S


def test_a_request_that_fails_does_not_fail_its_neighbours():
    run = Doubler()
    with scheduler() as batches:
        with behind(run, batches) as pool:
            good = pool.submit(ask, batches, run, 1)
            queued(batches, 1)
            bad = pool.submit(ask, batches, run, -1)
            queued(batches, 2)
        assert good.result(LONG_S) == [2]
        with pytest.raises(ServingError, match="negative"):
            bad.result(LONG_S)


def test_requests_of_other_shapes_are_run_each_alone():
    run = Doubler()
    with scheduler() as batches:
        with behind(run, batches) as pool:
            flat = pool.submit(ask, batches, run, 1)
            queued(batches, 1)
            deep = pool.submit(ask, batches, run, [1, 2])
            queued(batches, 2)
        assert flat.result(LONG_S) == [2] and deep.result(LONG_S) == [[2, 4]]


def test_a_request_larger_than_a_batch_is_refused_unless_it_may_be_split():
    run = Doubler()
    with scheduler() as batches:
        with pytest.raises(ServingError) as caught:
            ask(batches, run, *range(5))
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message == (
        "Task size 5 is larger than maximum input batch size 4"
    )
    options = {"enable_large_batch_splitting": True, "max_execution_batch_size": 2}
    with scheduler(max_batch_size=5, **options) as batches:
        assert ask(batches, run, *range(5)) == [0, 2, 4, 6, 8]
    assert run.batches == [[0, 1], [2, 3], [4]]


def test_a_split_request_is_taken_whole_or_not_at_all():
    run = Doubler()
    options = {"enable_large_batch_splitting": True, "max_execution_batch_size": 1}
    with scheduler(max_enqueued_batches=2, **options) as batches:
        with behind(run, batches):
            with pytest.raises(ServingError, match="queue .* is full"):
                ask(batches, run, 1, 2, 3)
            with batches._changed:
                assert not any(batches._queues["k"]._batches)


def test_a_part_that_fails_fails_the_request_when_all_parts_are_done():
    go, began = threading.Event(), threading.Semaphore(0)

    def run(feeds, timeout_ms):
        began.release()
        if feeds["x"][0] < 0:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, "negative")
        assert go.wait(LONG_S)
        return [feeds["x"]]

    options = {"enable_large_batch_splitting": True, "max_execution_batch_size": 1}
    with (
        scheduler(num_batch_threads=2, **options) as batches,
        ThreadPoolExecutor(1) as pool,
    ):
        failing = pool.submit(ask, batches, run, -1, 2)
        assert began.acquire(timeout=LONG_S) and began.acquire(timeout=LONG_S)
        with pytest.raises(TimeoutError):
            failing.result(0.5)  # the session may not be closed under the other part
        go.set()
        with pytest.raises(ServingError, match="negative"):
            failing.result(LONG_S)


def test_a_request_that_is_split_fills_the_open_batch_first():
    run = Doubler()
    options = {"enable_large_batch_splitting": True, "max_execution_batch_size": 4}
    with scheduler(max_batch_size=8, **options) as batches:
        with behind(run, batches) as pool:
            one = pool.submit(ask, batches, run, 1)
            queued(batches, 1)
            many = pool.submit(ask, batches, run, *range(2, 10))
            queued(batches, 4)
        assert one.result(LONG_S) == [2]
        assert many.result(LONG_S) == [2 * i for i in range(2, 10)]
    assert run.batches[1:] == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]


def test_kinds_of_requests_take_turns():
    run = Doubler()
    with scheduler(max_batch_size=1) as batches:
        with behind(run, batches) as pool:
            for value in (1, 2, 3):
                pool.submit(ask, batches, run, value, key="a")
                queued(batches, value, key="a")
            pool.submit(ask, batches, run, 9, key="b")
            queued(batches, 1, key="b")
    assert run.batches.index([9]) <= 2


def test_an_empty_request_is_answered():
    assert_empty = Doubler()
    with scheduler() as batches:
        assert ask(batches, assert_empty) == []


def test_many_threads_get_each_its_own():
    run = Doubler()
    with scheduler(num_batch_threads=4, max_batch_size=16) as batches:
        with ThreadPoolExecutor(32) as pool:
            wanted = [(i, i + 1) for i in range(1000)]
            found = pool.map(lambda rows: ask(batches, run, *rows), wanted)
            assert list(found) == [[2 * a, 2 * b] for a, b in wanted]
    assert len(run.batches) < 1000
