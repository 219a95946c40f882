"""Limits of memory and time of gRPC messages that are still arriving.

gRPC keeps a message from the moment it is read until it is complete, whatever its size.
Before that, a call holds no more than its flow-control window, 64 KiB.
"""

import ctypes
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from serving.server.deadline import Deadline
from serving.server.engine.admission import Reservation, WeightedSemaphore, over_limit
from serving.server.errors import ServingError, deadline_exceeded, unimplemented

# Memory of a request in multiples of its size: gRPC copies a complete message twice;
# later bytes, parsed form and arrays are in memory, up to three at once. The rest keeps
# the largest message from being parsed while another one is completed.
COPIES = 3.5
_ARRIVING = 1.5  # gRPC copies one message at a time
_TURN_S = 0.02  # wait for a slot, as long as slots are returned
_YOUNG_S = 0.05  # time in which a small message arrives, even from far away
_GIVE_UP_S = 0.1  # age at which a message without a reservation is refused
_STEP_S = 0.025
_COPIES_S = 1.0  # time in which another request may end
_REFUSED = object()
LARGE_BYTES = 2**24  # messages after which free memory goes back to the system
_TRIM_S = 0.05


class ArrivalGate:
    """Reads requests; a message that arrives slowly needs a reservation of memory.

    Few calls read at a time in their own threads, each with a reservation for the
    largest message. The others read in a second thread, which costs time, but can be
    refused while their messages arrive.
    """

    def __init__(
        self,
        memory: WeightedSemaphore,
        message_bytes: int,
        threads: int,
        receive_s: float = 120.0,
    ):
        """Creates a gate.

        Args:
            memory: Semaphore of the bytes of all requests.
            message_bytes: Maximum size of a message.
            threads: Threads of the server; slow messages have at most half of them.
            receive_s: Maximum time in which a message arrives.
        """
        self._memory, self._receive_s = memory, receive_s
        self.message_bytes, self.max_waiting = message_bytes, max(1, threads // 2)
        # A quarter of the memory is left for complete messages.
        self._reserved_bytes = min(
            int(_ARRIVING * message_bytes), memory.limit * 3 // 8
        )
        slots = min(memory.limit * 3 // 4 // self._reserved_bytes, threads // 4)
        self.slots = max(1, slots)
        self._slots: queue.SimpleQueue[object] = queue.SimpleQueue()
        for _ in range(self.slots):
            self._slots.put(object())
        self._slot_returned_s = 0.0
        self._reading: dict[object, tuple[float, Callable[[], None]]] = {}
        self._waiting: deque[queue.SimpleQueue] = deque()
        self._lock, self._copies_turn = threading.Lock(), threading.Lock()
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="grpc-read")

    def read(
        self,
        messages: Iterator[bytes],
        reservation: Reservation,
        deadline: Deadline,
        cancel: Callable[[], None],
    ) -> bytes:
        """Returns the message of a call, and reserves the bytes of its copies.

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
        slot = self._take_slot()
        if slot and self._reserve(reservation, slot):
            self._reading[slot] = time.monotonic(), cancel
            try:
                data = next(messages, None)
            finally:
                del self._reading[slot]
                self._return_slot(slot)
        else:
            data = self._read_in_second_thread(messages, reservation, deadline)
        if data is None:
            raise unimplemented("The method requires exactly one request message.")
        reservation.resize(len(data))
        if len(data) >= LARGE_BYTES:
            trim_memory()
        self._reserve_copies(len(data), reservation, deadline)
        return data

    def _reserve_copies(self, size: int, reservation, deadline: Deadline) -> None:
        """Reserves the memory of a message's copies; one call at a time waits for it.

        Several would wait for each other.
        """
        units = min(int(COPIES * size), self._memory.limit)
        end_s, waits = time.monotonic() + _COPIES_S, False
        try:
            while True:
                try:
                    return reservation.resize(units)
                except ServingError:
                    waits = waits or self._copies_turn.acquire(blocking=False)
                    if not waits or deadline.is_over or time.monotonic() >= end_s:
                        raise
                time.sleep(_STEP_S)
        finally:
            if waits:
                self._copies_turn.release()

    def _take_slot(self) -> object | None:
        try:
            return self._slots.get(block=False)
        except queue.Empty:
            if time.monotonic() - self._slot_returned_s > _TURN_S:
                return None  # slow messages have all of them
        try:
            return self._slots.get(timeout=_TURN_S)
        except queue.Empty:
            return None

    def _return_slot(self, slot: object) -> None:
        self._slot_returned_s = time.monotonic()
        self._slots.put(slot)

    def _reserve(self, reservation: Reservation, slot: object) -> bool:
        """Reserves memory for the largest message; gives the slot back if it cannot."""
        try:
            reservation.resize(self._reserved_bytes)
            return True
        except ServingError:
            self._return_slot(slot)
            return False

    def _read_in_second_thread(self, messages, reservation, deadline) -> bytes | None:
        self._cancel_late_readers()
        box: queue.SimpleQueue = queue.SimpleQueue()
        with self._lock:
            self._waiting.append(box)
            if len(self._waiting) > self.max_waiting:
                self._waiting.popleft().put(_REFUSED)  # the oldest
        self._readers.submit(_read, messages, box)
        try:
            result = self._wait(box, reservation, deadline)
        finally:
            with self._lock:
                if box in self._waiting:
                    self._waiting.remove(box)
        if result is _REFUSED:
            raise over_limit("arriving requests", self.max_waiting, self.max_waiting, 1)
        if isinstance(result, Exception):
            raise result
        return result

    def _wait(self, box: queue.SimpleQueue, reservation, deadline: Deadline):
        """Waits for the message, and for a reservation once it is slow."""
        start_s, wait_s, slot = time.monotonic(), _YOUNG_S, None
        try:
            while True:
                left_s = deadline.remaining_s()
                left_s = wait_s if left_s is None else min(left_s, wait_s)
                try:
                    return box.get(timeout=left_s)
                except queue.Empty:
                    age_s = time.monotonic() - start_s
                if deadline.is_over or age_s >= self._receive_s:
                    raise deadline_exceeded("The request has not arrived in time")
                if not slot and not self._slots.empty():
                    slot = self._take_slot()
                    slot = slot if slot and self._reserve(reservation, slot) else None
                if not slot and age_s >= _GIVE_UP_S:
                    raise over_limit("slow requests", self.slots, self.slots, 1)
                wait_s = self._receive_s - age_s if slot else _STEP_S
        finally:
            if slot:
                self._return_slot(slot)

    def _cancel_late_readers(self) -> None:
        """Cancels calls that have had a slot for too long; another call needs one."""
        latest_s = time.monotonic() - self._receive_s
        for start_s, cancel in list(self._reading.values()):
            if start_s < latest_s:
                cancel()


def _read(messages: Iterator[bytes], box: queue.SimpleQueue) -> None:
    result = None
    try:
        result = next(messages, None)
    except Exception as error:  # the client has left
        result = error
    box.put(result)
    if not isinstance(result, bytes):
        trim_memory()


def trim_memory() -> None:
    """Returns free memory to the system, at most every 50 ms.

    glibc keeps it otherwise, since gRPC allocates a message in many small parts.
    """
    global _trimmed_s
    if time.monotonic() - _trimmed_s > _TRIM_S and (trim := _malloc_trim()):
        trim(0)
        _trimmed_s = time.monotonic()


_trimmed_s = 0.0


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)  # None: no glibc
