"""Decompression of requests up to a size limit and the free memory."""

import zlib
from collections.abc import Callable, Iterable, Iterator

import grpc

from serving.server.deadline import Deadline
from serving.server.errors import (
    ServingError,
    deadline_exceeded,
    internal,
    invalid_argument,
)

GZIP, EITHER = zlib.MAX_WBITS | 16, zlib.MAX_WBITS | 32  # zlib's numbers for formats
# No protobuf message starts with these bytes: gzip's first byte has an invalid wire
# type, and zlib's is field 15, which no request has.
_STARTS = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_STEP, _FIRST_STEP = 2**20, 512
_Acquire = Callable[[int], None]


class TooLargeError(ServingError):
    """Request above the size limit."""


def decompress_message(
    data: bytes, limit: int, acquire: _Acquire, deadline: Deadline
) -> bytes:
    """Returns a gRPC message, decompressed if it is gzip or deflate.

    Raises:
        ServingError: RESOURCE_EXHAUSTED above the limit, INTERNAL for damaged data, as
            in gRPC, DEADLINE_EXCEEDED after the deadline.
    """
    if not data.startswith(_STARTS):
        return data
    try:
        return _collect(_Stream(data, EITHER).parts(), limit, acquire, deadline)
    except zlib.error as error:
        raise internal(f"The request is no compressed message: {error}") from None


def decompress_gzip(
    body: bytes, limit: int, acquire: _Acquire, deadline: Deadline
) -> bytes:
    """Returns the content of a gzip body, which may have several members.

    Raises:
        TooLargeError: RESOURCE_EXHAUSTED, above the limit.
        ServingError: INVALID_ARGUMENT for damaged data, DEADLINE_EXCEEDED after the
            deadline.
    """
    stream = _Stream(body, GZIP)
    parts = (part for _ in iter(stream.has_more, False) for part in stream.parts())
    try:
        return _collect(parts, limit, acquire, deadline)
    except zlib.error as error:
        raise invalid_argument(
            f"The body cannot be decompressed as Content-Encoding: gzip: {error}."
        ) from None


def decompress(
    data: bytes,
    kind: int,
    limit: int,
    acquire: _Acquire,
    deadline: Deadline | None = None,
) -> tuple[bytes, bytes]:
    """Returns the decompressed stream at the start of `data`, and the bytes behind it.

    Args:
        data: Compressed bytes.
        kind: Format, GZIP or EITHER (gzip or deflate).
        limit: Maximum decompressed bytes.
        acquire: Reserves memory for a number of bytes, or raises.
        deadline: Deadline of the request.

    Raises:
        TooLargeError: RESOURCE_EXHAUSTED, above the limit.
        ServingError: DEADLINE_EXCEEDED, after the deadline.
        zlib.error: The data are damaged.
    """
    stream = _Stream(data, kind)
    result = _collect(stream.parts(), limit, acquire, deadline or Deadline())
    return result, data[stream.position :]


def _collect(
    parts: Iterable[bytes], limit: int, acquire: _Acquire, deadline: Deadline
) -> bytes:
    result = bytearray()
    for part in parts:
        if deadline.is_over:
            raise deadline_exceeded("The deadline was exceeded by the decompression")
        if len(result) + len(part) > limit:
            raise TooLargeError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"Received message larger than max ({limit} bytes, inflated)",
            )
        acquire(len(part))
        result += part
    return bytes(result)


class _Stream:
    """Compressed data that are read member by member; `position` is the next byte."""

    def __init__(self, data: bytes, kind: int):
        self._view, self._kind, self.position = memoryview(data), kind, 0

    def has_more(self) -> bool:
        return self.position < len(self._view)

    def parts(self) -> Iterator[bytes]:
        """Decompresses one member, in parts of up to 1 MiB.

        zlib copies what it does not need of an input, so that the inputs start small.
        """
        inflater, step, part = zlib.decompressobj(self._kind), _FIRST_STEP, b"-"
        while not inflater.eof:
            data = inflater.unconsumed_tail
            if not data:
                data = self._view[self.position : self.position + step]
                if not data and not part:
                    raise zlib.error("it ends too early")
                self.position += len(data)
                step = min(2 * step, _STEP)
            part = inflater.decompress(data, _STEP)
            yield part
        self.position -= len(inflater.unused_data)
