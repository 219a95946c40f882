import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import grpc
import pytest

from serving.server.deadline import Deadline
from serving.server.engine.admission import WeightedSemaphore
from serving.server.grpc.arrivals import COPIES, ArrivalGate
from tests.serving.server.assertions import WAIT_S, serving_error, wait_until

MIB = 2**20
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


class SlowMessages:
    """Messages of a call: one, after `end`."""

    def __init__(self, message=b"late"):
        self.end, self.reading, self._message = threading.Event(), False, message

    def __next__(self):
        self.reading = True
        assert self.end.wait(WAIT_S)
        return self._message


def build_gate(threads=4, **settings):
    memory = WeightedSemaphore(8 * MIB, "bytes")
    return memory, ArrivalGate(memory, MIB, threads, **settings)


def read(memory, gate, messages, deadline=None, cancel=None):
    """Returns the message and the bytes that are reserved for it."""
    with memory.acquire_incrementally() as reservation:
        data = gate.read(messages, reservation, deadline or Deadline(), cancel)
        return data, reservation.held


def test_a_message_reserves_its_copies():
    memory, gate = build_gate()
    data = bytes(1000)
    assert read(memory, gate, iter([data])) == (data, COPIES * 1000)
    error = serving_error(read, memory, gate, iter([]))
    assert error.code is grpc.StatusCode.UNIMPLEMENTED
    with memory.try_acquire(8 * MIB - 1000):  # no room to wait for, but for reading
        assert serving_error(read, memory, gate, iter([data])).code is EXHAUSTED


def test_a_slow_message_holds_a_reservation_and_others_are_refused(pool):
    memory, gate = build_gate()  # one slot
    first, second = SlowMessages(), SlowMessages()
    call = pool.submit(read, memory, gate, first)
    wait_until(lambda: first.reading)
    assert serving_error(memory.add, 7 * MIB).code is EXHAUSTED
    assert serving_error(read, memory, gate, second).code is EXHAUSTED
    assert read(memory, gate, iter([b"small"]))[0] == b"small"
    first.end.set()
    second.end.set()
    assert call.result(WAIT_S)[0] == b"late"
    with memory.try_acquire(8 * MIB):
        pass


def test_a_message_that_is_too_slow_gives_its_slot_to_others(pool):
    memory, gate = build_gate(receive_s=0.01)
    slow, cancel = SlowMessages(), Mock()
    pool.submit(read, memory, gate, slow, cancel=cancel)
    wait_until(lambda: slow.reading)

    def is_cancelled():
        read(memory, gate, iter([b"other"]))
        return cancel.called

    wait_until(is_cancelled)
    for settings in ({}, {"deadline": Deadline(0.01)}):
        other = SlowMessages()
        error = serving_error(read, memory, gate, other, **settings)
        assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
        other.end.set()
    slow.end.set()


def test_the_oldest_slow_message_is_refused_if_there_are_many(pool):
    memory, gate = build_gate(threads=2)
    slow = [SlowMessages() for _ in range(3)]
    calls = [pool.submit(read, memory, gate, messages) for messages in slow[:1]]
    wait_until(lambda: slow[0].reading)
    for messages in slow[1:]:
        calls.append(pool.submit(read, memory, gate, messages))
        wait_until(lambda messages=messages: messages.reading)
    error = serving_error(calls[1].result, WAIT_S)
    assert error.code is EXHAUSTED and "arriving requests" in error.message
    for messages in slow:
        messages.end.set()
    assert calls[0].result(WAIT_S)[0] == b"late"
