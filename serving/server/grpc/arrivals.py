"""Limits of memory and time of gRPC messages that are still arriving.

gRPC keeps a message from the moment it is read until it is complete, whatever its size.
Before that, a call holds no more than its flow-control window, 64 KiB.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import (
    Future,
    InvalidStateError,
    ThreadPoolExecutor,
    TimeoutError,
)
from contextlib import suppress
from functools import partial

from serving.server.deadline import Deadline
from serving.server.engine.admission import Reservation, WeightedSemaphore, over_limit
from serving.server.engine.decompression import decompress_message
from serving.server.errors import ServingError, deadline_exceeded, unimplemented
from serving.server.grpc.memory import LARGE_BYTES, ProcessMemory, trim_memory

# Memory of a request in multiples of its size. gRPC copies a complete message twice;
# later its bytes, its parsed form and its arrays are in memory.
COPIES = 3
_SLOT_S, _FULL_S = 0.02, 0.5  # wait for a slot, and while much memory is used
_WATCH_S = 5.0  # interval of looks at calls with slots
_YOUNG_S, _YOUNG_STEP_S, _STEP_S = 0.1, 0.02, 0.1  # looks at a slow message


class ArrivalGate:
    """Reads requests. While much memory is used, a slow message needs a slot.

    A slot reserves memory for the largest message. Calls without a slot read in a
    second thread: that costs time, but they can be refused meanwhile.
    """

    def __init__(
        self,
        memory: WeightedSemaphore,
        message_bytes: int,
        threads: int,
        receive_s: float = 120.0,
        process: ProcessMemory | None = None,
    ):
        """Creates a gate.

        Args:
            memory: Semaphore of the bytes of all requests.
            message_bytes: Maximum size of a message.
            threads: Threads of the server; half as many calls can read without a slot.
            receive_s: Maximum time in which a message arrives.
            process: Memory of the process.
        """
        self._memory, self._message_bytes = memory, message_bytes
        self._receive_s, self.max_waiting = receive_s, max(1, threads // 2)
        # A quarter of the memory is left for messages without a slot.
        self._slot_bytes = min(COPIES * message_bytes, memory.limit * 3 // 4)
        self._free_bytes = memory.limit * 3 // 8
        self._process = process or ProcessMemory()
        self.slots = memory.limit * 3 // 4 // self._slot_bytes
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(self.slots):
            self._slots.put(slot)
        self._slot_returned_s, self._stopped = 0.0, threading.Event()
        self._reading: dict[int, tuple[float, Callable[[], None]]] = {}
        self._waiting: deque[Future] = deque()
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="grpc-read")

    def start(self) -> None:
        """Starts to cancel calls that have had a slot for too long."""
        self._process.reset()
        threading.Thread(target=self._watch, name="grpc-watch", daemon=True).start()

    def stop(self) -> None:
        """Ends that."""
        self._stopped.set()

    def read(
        self,
        messages: Iterator[bytes],
        reservation: Reservation,
        deadline: Deadline,
        cancel: Callable[[], None],
    ) -> bytes:
        """Returns the decompressed message of a call; reserves its copies' bytes.

        Args:
            messages: Messages of the call.
            reservation: Empty reservation of the gate's semaphore.
            deadline: Deadline of the call.
            cancel: Cancels the call.

        Raises:
            ServingError: RESOURCE_EXHAUSTED if there is no room, DEADLINE_EXCEEDED if
                the message arrives too slowly, UNIMPLEMENTED if there is none.
            grpc.RpcError: The client has left.
        """

        def grow(extra: int) -> None:
            if reservation.held < self._slot_bytes:  # else it has room for any message
                units = reservation.held + COPIES * extra
                reservation.resize(min(units, self._memory.limit))

        data = self._read(messages, reservation, deadline, cancel)
        if data is None:
            raise unimplemented("The method requires exactly one request message.")
        grow(len(data))
        data = decompress_message(data, self._message_bytes, grow, deadline)
        reservation.resize(min(COPIES * len(data), self._memory.limit))
        if len(data) >= LARGE_BYTES:
            trim_memory()
        return data

    def _read(self, messages, reservation, deadline, cancel) -> bytes | None:
        slot, is_full = self._take_slot(reservation), False
        if slot is None:
            is_full = self._process.growth_bytes() > self._free_bytes
            slot = self._wait_for_slot(reservation, deadline.within(_FULL_S), is_full)
        if slot is None:
            deadline = deadline.within(self._receive_s)
            return self._read_without_slot(messages, reservation, deadline, is_full)
        self._reading[slot] = time.monotonic(), cancel
        try:
            return next(messages, None)
        finally:
            del self._reading[slot]
            self._slot_returned_s = time.monotonic()
            self._slots.put(slot)

    def _wait_for_slot(self, reservation, deadline: Deadline, is_full: bool):
        """Waits while memory is short, or other calls give slots back."""
        while True:
            wait = deadline if is_full else deadline.within(_SLOT_S)
            if (slot := self._take_slot(reservation, wait)) is not None:
                return slot
            is_moving = time.monotonic() - self._slot_returned_s < _SLOT_S
            if deadline.is_over or not is_moving:
                return None

    def _take_slot(self, reservation, wait: Deadline | None = None) -> int | None:
        """Returns a slot, with its memory, or None; waits if `wait` is not None."""
        try:
            slot = self._slots.get(wait is not None, wait and wait.remaining_s())
        except queue.Empty:
            return None  # slow messages have all of them
        try:
            if wait:
                reservation.wait_for(self._slot_bytes, wait)
            else:
                reservation.resize(self._slot_bytes)
            return slot
        except ServingError:
            self._slots.put(slot)
            return None

    def _read_without_slot(
        self, messages, reservation, deadline: Deadline, is_full: bool
    ) -> bytes | None:
        """Reads in a second thread; while much memory is used, one call at a time."""
        if is_full and not self._turn.acquire(timeout=_FULL_S):
            raise self._refuse()
        arrival: Future = Future()
        reading = self._readers.submit(next, messages, None)
        reading.add_done_callback(partial(_copy_result, arrival))
        if is_full:  # gRPC keeps the bytes of a refused call until it has ended it
            reading.add_done_callback(lambda _: self._turn.release())
        with self._lock:
            self._waiting.append(arrival)
            if len(self._waiting) > self.max_waiting:
                _set_error(self._waiting.popleft(), self._refuse())  # the oldest
        try:
            return self._wait(arrival, reservation, deadline)
        except ServingError:
            reading.add_done_callback(lambda _: trim_memory())
            raise
        finally:
            with self._lock:
                if arrival in self._waiting:
                    self._waiting.remove(arrival)

    def _wait(self, arrival: Future, reservation, deadline: Deadline) -> bytes | None:
        """Waits for a message, and takes a slot once much memory is used."""
        slot, start_s = None, time.monotonic()
        try:
            while True:
                is_young = time.monotonic() - start_s < _YOUNG_S
                step = deadline.within(_YOUNG_STEP_S if is_young else _STEP_S)
                try:
                    return arrival.result(step.remaining_s())
                except TimeoutError:
                    pass
                if deadline.is_over:
                    raise deadline_exceeded("The request has not arrived in time")
                is_full = self._process.growth_bytes() > self._free_bytes
                if slot is None and is_full and not is_young:
                    slot = self._take_slot(reservation)
                    if slot is None:
                        raise self._refuse()
        finally:
            if slot is not None:
                self._slots.put(slot)

    def _refuse(self) -> ServingError:
        return over_limit("slow requests", self.slots, self.slots, 1)

    def _watch(self) -> None:
        while not self._stopped.wait(min(self._receive_s, _WATCH_S)):
            latest_s = time.monotonic() - self._receive_s
            for start_s, cancel in list(self._reading.values()):
                if start_s < latest_s:
                    cancel()


def _copy_result(arrival: Future, reading: Future) -> None:
    if error := reading.exception():  # the client has left
        _set_error(arrival, error)
    else:
        with suppress(InvalidStateError):  # it was refused
            arrival.set_result(reading.result())


def _set_error(arrival: Future, error: BaseException) -> None:
    with suppress(InvalidStateError):
        arrival.set_exception(error)
