import gzip
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


def build_gate(limit_mib=8, growth_mib=100, **settings):
    memory = WeightedSemaphore(limit_mib * MIB, "bytes")
    process = Mock(growth_bytes=lambda: growth_mib * MIB)
    return memory, ArrivalGate(memory, MIB, threads=4, process=process, **settings)


def read(memory, gate, messages, deadline=None, cancel=None):
    """Returns the message and the bytes that are reserved for it."""
    with memory.acquire_incrementally() as reservation:
        data = gate.read(messages, reservation, deadline or Deadline(), cancel)
        return data, reservation.held


def test_a_message_reserves_its_copies():
    memory, gate = build_gate()
    data = bytes(1000)
    assert read(memory, gate, iter([data])) == (data, COPIES * 1000)
    packed = gzip.compress(data)
    assert read(memory, gate, iter([packed])) == (data, COPIES * 1000)
    error = serving_error(read, memory, gate, iter([]))
    assert error.code is grpc.StatusCode.UNIMPLEMENTED
    with memory.try_acquire(8 * MIB - 1000):
        assert serving_error(read, memory, gate, iter([data])).code is EXHAUSTED
    with memory.try_acquire(8 * MIB):
        pass


def test_a_slow_message_holds_a_slot_and_others_are_refused_if_memory_is_short(pool):
    memory, gate = build_gate(limit_mib=4)  # one slot
    first, second = SlowMessages(), SlowMessages()
    call = pool.submit(read, memory, gate, first)
    wait_until(lambda: first.reading)
    assert serving_error(memory.add, 2 * MIB).code is EXHAUSTED
    assert serving_error(read, memory, gate, second).code is EXHAUSTED
    # The turn ends when gRPC has ended the call; until then it may keep the bytes.
    assert serving_error(read, memory, gate, iter([b"x"])).code is EXHAUSTED
    second.end.set()
    wait_until(lambda: read(memory, gate, iter([b"small"]))[0] == b"small")
    first.end.set()
    assert call.result(WAIT_S)[0] == b"late"
    with memory.try_acquire(4 * MIB):
        pass


def test_many_slow_messages_arrive_while_there_is_memory(pool):
    memory, gate = build_gate(limit_mib=4, growth_mib=0)
    slow = [SlowMessages() for _ in range(3)]  # a slot, and two without
    calls = [pool.submit(read, memory, gate, messages) for messages in slow]
    wait_until(lambda: all(messages.reading for messages in slow))
    assert read(memory, gate, iter([b"small"]))[0] == b"small"
    # One more than can wait: the oldest is refused.
    last = pool.submit(read, memory, gate, last_messages := SlowMessages())
    wait_until(lambda: sum(call.done() for call in calls) == 1)
    for messages in (*slow, last_messages):
        messages.end.set()
    errors = [call.exception(WAIT_S) for call in (*calls, last)]
    assert [error.code for error in errors if error] == [EXHAUSTED]


def test_a_large_message_waits_until_another_one_is_answered(pool):
    memory, gate = build_gate(limit_mib=4)
    with memory.acquire_incrementally() as reservation:
        gate.read(iter([bytes(MIB)]), reservation, Deadline(), None)
        call = pool.submit(read, memory, gate, iter([bytes(MIB)]))
        wait_until(lambda: memory.waiters)
    assert call.result(WAIT_S)[1] == COPIES * MIB


def test_a_message_that_is_too_slow_gives_its_slot_to_others(pool):
    memory, gate = build_gate(limit_mib=4, receive_s=0.01)
    slow, cancel = SlowMessages(), Mock()
    pool.submit(read, memory, gate, slow, cancel=cancel)
    wait_until(lambda: slow.reading)

    gate.start()
    wait_until(lambda: cancel.called)
    gate.stop()
    slow.end.set()
