"""Limits of memory and time of gRPC messages that are still arriving.

gRPC keeps a message from the moment it is read until it is complete, whatever its size.
Before that, a call holds no more than its flow-control window, 64 KiB.
"""

import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

from serving.server.deadline import Deadline
from serving.server.engine.admission import Reservation, WeightedSemaphore, over_limit
from serving.server.engine.decompression import decompress_message
from serving.server.errors import ServingError, deadline_exceeded, unimplemented
from serving.server.grpc.memory import LARGE_BYTES, trim_memory
from serving.server.grpc.turns import Turns

# Memory of a request in multiples of its size. gRPC copies a complete message twice;
# later its bytes, its parsed form and its arrays are in memory.
COPIES = 3
_SLOT_S = 0.5  # wait for a slot, as long as slots are returned


class ArrivalGate:
    """Reads requests. A message that arrives slowly needs a slot.

    A slot reserves memory for the largest message. Calls without a slot read in turns,
    in a second thread: that costs time, but they can be refused meanwhile.
    """

    def __init__(
        self,
        memory: WeightedSemaphore,
        message_bytes: int,
        threads: int,
        receive_s: float = 120.0,
        turn_s: float = 0.05,
    ):
        """Creates a gate.

        Args:
            memory: Semaphore of the bytes of all requests.
            message_bytes: Maximum size of a message.
            threads: Threads of the server; half as many calls can wait for a turn.
            receive_s: Maximum time in which a message arrives.
            turn_s: Time in which a small message arrives, even from far away.
        """
        self._memory, self._message_bytes = memory, message_bytes
        self._receive_s, self._turn_s = receive_s, turn_s
        self.max_waiting = max(1, threads // 2)
        # A quarter of the memory is left for other messages, most of it for a turn.
        self._slot_bytes = min(COPIES * message_bytes, memory.limit * 3 // 4)
        self._turn_bytes = memory.limit * 3 // 16
        self.slots = memory.limit * 3 // 4 // self._slot_bytes
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(self.slots):
            self._slots.put(slot)
        self._slot_returned_s = 0.0
        self._reading: dict[int, tuple[float, Callable[[], None]]] = {}
        self._turns = Turns(self.max_waiting)
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="grpc-read")

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
        slot = self._take_slot(reservation)
        if slot is None and time.monotonic() - self._slot_returned_s <= _SLOT_S:
            slot = self._take_slot(reservation, deadline.within(_SLOT_S))
        if slot is None:
            self._cancel_late_readers()
            deadline = deadline.within(self._receive_s)
            return self._read_in_turn(messages, reservation, deadline)
        self._reading[slot] = time.monotonic(), cancel
        try:
            return next(messages, None)
        finally:
            del self._reading[slot]
            self._return_slot(slot)

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
            self._return_slot(slot)
            return None

    def _return_slot(self, slot: int) -> None:
        self._slot_returned_s = time.monotonic()
        self._slots.put(slot)

    def _read_in_turn(self, messages, reservation, deadline) -> bytes | None:
        with ExitStack() as turn:
            turn.enter_context(self._turns.take(deadline))
            memory = turn.enter_context(self._memory.acquire_incrementally())
            with suppress(ServingError):
                memory.wait_for(self._turn_bytes, deadline.within(_SLOT_S))
            memory.resize(self._turn_bytes)  # refused if it has waited in vain
            future = self._readers.submit(next, messages, None)
            try:
                return future.result(deadline.within(self._turn_s).remaining_s())
            except TimeoutError:
                slot = self._take_slot(reservation)
            if slot is None:
                # gRPC keeps the bytes until it has ended the call.
                turn.callback(trim_memory)
                end = turn.pop_all()
                future.add_done_callback(lambda _: end.close())
                raise over_limit("slow requests", self.slots, self.slots, 1)
        try:
            return future.result(deadline.remaining_s())
        except TimeoutError:
            raise deadline_exceeded("The request has not arrived in time") from None
        finally:
            self._return_slot(slot)

    def _cancel_late_readers(self) -> None:
        """Cancels calls that have had a slot for too long; another call needs one."""
        latest_s = time.monotonic() - self._receive_s
        for start_s, cancel in list(self._reading.values()):
            if start_s < latest_s:
                cancel()
