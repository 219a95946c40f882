import threading
import time
from contextlib import ExitStack

import grpc
import pytest

from serving.server.deadline import Deadline
from serving.server.engine.admission import WeightedSemaphore
from serving.server.errors import ServingError


def test_more_than_there_can_be_is_refused_at_once():
    with pytest.raises(ServingError) as caught:
        with WeightedSemaphore(10, "rows").taken(11, Deadline()):
            raise AssertionError
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message == "The request has 11 rows, and the limit is 10"


def test_room_is_waited_for_until_it_is_given_back():
    room, order = WeightedSemaphore(10, "rows"), []

    def second():
        with room.taken(6, Deadline()):
            order.append("second")

    thread = threading.Thread(target=second)
    with room.taken(5, Deadline()):
        with room.taken(5, Deadline()):
            thread.start()
            wait_until(lambda: room._line)
            order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_the_wait_ends_with_the_deadline_and_takes_nothing():
    room = WeightedSemaphore(10, "rows")
    with room.taken(10, Deadline()):
        with pytest.raises(ServingError) as caught:
            with room.taken(1, Deadline(0.01)):
                raise AssertionError
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
    with room.taken(10, Deadline(0)):
        pass


def test_room_that_must_be_there_at_once_is_refused_when_it_is_not():
    room = WeightedSemaphore(2, "requests")
    with ExitStack() as stack:
        stack.enter_context(room.taken_now(1))
        stack.enter_context(room.taken_now(1))
        with pytest.raises(ServingError) as caught:
            stack.enter_context(room.taken_now(1))
    assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.message.startswith("Too many requests in flight: 2 of 2")
    with room.taken_now(2):
        pass


def test_an_exception_inside_gives_the_room_back():
    room = WeightedSemaphore(1, "rows")
    with pytest.raises(KeyError):
        with room.taken(1, Deadline()):
            raise KeyError
    with room.taken_now(1):
        pass


def wait_until(true):
    until_s = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until_s
        time.sleep(0.01)


def test_who_wants_much_is_not_passed_by_those_who_want_little():
    room, order = WeightedSemaphore(10, "rows"), []

    def take(units):
        with room.taken(units, Deadline()):
            order.append(units)

    threads = [threading.Thread(target=take, args=(units,)) for units in (10, 1)]
    with room.taken(5, Deadline()):
        for count, thread in enumerate(threads, 1):
            thread.start()
            wait_until(lambda n=count: len(room._line) == n)
        assert not order  # there is room for the one, but it came second
    for thread in threads:
        thread.join(30)
    assert order == [10, 1]


def test_a_client_that_left_waits_no_longer_and_lets_others_pass():
    room, gone, errors = WeightedSemaphore(10, "rows"), Deadline(), []

    def take():
        try:
            with room.taken(10, gone):
                raise AssertionError
        except ServingError as error:
            errors.append(error.code)

    thread = threading.Thread(target=take)
    with room.taken(5, Deadline()):
        thread.start()
        wait_until(lambda: len(room._line) == 1)
        gone.cancel()
        thread.join(30)
        assert errors == [grpc.StatusCode.DEADLINE_EXCEEDED]
        with room.taken(5, Deadline(0)):
            pass


def test_what_can_never_fit_is_not_to_be_tried_again():
    room = WeightedSemaphore(10, "rows")
    with room.growing() as take:
        take(6)
        for units in (5, 11):
            with pytest.raises(ServingError, match="and the limit is 10") as caught:
                take(units)
            assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(ServingError, match="has 11 rows, and the limit is 10"):
        with room.taken_now(11):
            raise AssertionError
    with room.taken_now(10):
        pass
