from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from serving.server.deadline import Deadline
from serving.server.engine.admission import WeightedSemaphore
from tests.serving.server.assertions import WAIT_S, serving_error, wait_until

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def enter(context):
    with context:
        pass


def test_more_than_the_limit_is_refused_at_once():
    semaphore = WeightedSemaphore(10, "rows")
    for context in (semaphore.acquire(11, Deadline()), semaphore.try_acquire(11)):
        error = serving_error(enter, context)
        assert error.code is INVALID
        assert error.message == "The request has 11 rows, and the limit is 10"


def test_acquire_waits_for_a_release():
    semaphore = WeightedSemaphore(10, "rows")
    with ThreadPoolExecutor(1) as pool:
        with semaphore.acquire(5, Deadline()), semaphore.acquire(5, Deadline()):
            second = pool.submit(enter, semaphore.acquire(6, Deadline()))
            wait_until(lambda: semaphore.waiters)
            assert not second.done()
        second.result(WAIT_S)


def test_the_wait_ends_with_the_deadline_and_acquires_nothing():
    semaphore = WeightedSemaphore(10, "rows")
    with semaphore.acquire(10, Deadline()):
        error = serving_error(enter, semaphore.acquire(1, Deadline(0.01)))
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
    enter(semaphore.acquire(10, Deadline(0)))


def test_try_acquire_is_refused_where_too_few_units_are_free():
    semaphore = WeightedSemaphore(2, "requests")
    with semaphore.try_acquire(1), semaphore.try_acquire(1):
        error = serving_error(enter, semaphore.try_acquire(1))
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.message.startswith("Too many requests in flight: 2 of 2")
    enter(semaphore.try_acquire(2))


def test_an_exception_inside_releases_the_units():
    semaphore = WeightedSemaphore(1, "rows")
    with pytest.raises(KeyError), semaphore.acquire(1, Deadline()):
        raise KeyError
    enter(semaphore.try_acquire(1))


def test_waiters_are_served_in_their_order():
    semaphore, order = WeightedSemaphore(10, "rows"), []

    def acquire(units):
        with semaphore.acquire(units, Deadline()):
            order.append(units)

    with ThreadPoolExecutor(2) as pool, semaphore.acquire(5, Deadline()):
        for count, units in enumerate((10, 1), 1):
            pool.submit(acquire, units)
            wait_until(lambda n=count: len(semaphore.waiters) == n)
        assert not order  # one unit is free, but the second waiter comes later
    assert order == [10, 1]


def test_a_cancelled_waiter_lets_others_pass():
    semaphore, cancelled = WeightedSemaphore(10, "rows"), Deadline()
    with ThreadPoolExecutor(1) as pool, semaphore.acquire(5, Deadline()):
        waiter = pool.submit(serving_error, enter, semaphore.acquire(10, cancelled))
        wait_until(lambda: semaphore.waiters)
        cancelled.cancel()
        assert waiter.result(WAIT_S).code is grpc.StatusCode.DEADLINE_EXCEEDED
        enter(semaphore.acquire(5, Deadline(0)))


def test_units_that_add_up_to_more_than_the_limit_are_an_invalid_request():
    semaphore = WeightedSemaphore(10, "rows")
    with semaphore.acquire_incrementally() as acquire:
        acquire(6)
        for units in (5, 11):
            error = serving_error(acquire, units)
            assert error.code is INVALID and "the limit is 10" in error.message
    enter(semaphore.try_acquire(10))


def test_a_reservation_is_resized_or_left_as_it_is():
    semaphore = WeightedSemaphore(10, "bytes")
    with semaphore.acquire_incrementally() as first, semaphore.try_acquire(3):
        first.resize(7)
        error = serving_error(first.resize, 8)
        assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED and first.held == 7
        first.resize(2)
        enter(semaphore.try_acquire(5))
    enter(semaphore.try_acquire(10))
