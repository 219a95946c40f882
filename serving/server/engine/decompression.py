"""Decompression of requests up to a size limit, the free memory and the deadline."""

import zlib
from collections.abc import Callable, Iterator

import grpc

from serving.server.deadline import Deadline
from serving.server.errors import (
    ServingError,
    deadline_exceeded,
    internal,
    invalid_argument,
)

_GZIP, _EITHER = zlib.MAX_WBITS | 16, zlib.MAX_WBITS | 32  # zlib's numbers for formats
# No protobuf message starts with these bytes: gzip's first byte has an invalid wire
# type, and zlib's is field 15, which no request has.
_STARTS = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_STEP, _FIRST_STEP = 2**20, 512  # bytes that are decompressed at once
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
        return bytes(_decompress(data, _EITHER, limit, acquire, deadline))
    except zlib.error as error:
        raise internal(f"The request is no compressed message: {error}") from None


def decompress_gzip(
    body: bytes | bytearray, limit: int, acquire: _Acquire, deadline: Deadline
) -> bytearray:
    """Returns the content of a gzip body, which may have several members.

    Raises:
        TooLargeError: RESOURCE_EXHAUSTED, above the limit.
        ServingError: INVALID_ARGUMENT for damaged data, DEADLINE_EXCEEDED after the
            deadline.
    """
    try:
        return _decompress(body, _GZIP, limit, acquire, deadline)
    except zlib.error as error:
        raise invalid_argument(
            f"The body cannot be decompressed as Content-Encoding: gzip: {error}."
        ) from None


def _decompress(data, kind: int, limit: int, acquire, deadline: Deadline) -> bytearray:
    result = bytearray()
    for part in _parts(memoryview(data), kind):
        if deadline.is_over:
            raise deadline_exceeded("The deadline was exceeded by the decompression")
        if len(result) + len(part) > limit:
            raise TooLargeError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"Received message larger than max ({limit} bytes, inflated)",
            )
        acquire(len(part) + len(part) // 8)  # a bytearray grows by an eighth
        result += part
    return result


def _parts(data: memoryview, kind: int) -> Iterator[bytes]:
    """Yields the content of all members, in parts of up to 1 MiB.

    zlib copies what it does not need of an input, so that a member's inputs start
    small: the time is linear in the number of members.
    """
    position = 0
    while position < len(data):
        inflater, step, part = zlib.decompressobj(kind), _FIRST_STEP, b"-"
        while not inflater.eof:
            source = inflater.unconsumed_tail
            if not source:
                source = data[position : position + step]
                if not source and not part:
                    raise zlib.error("it ends too early")
                position += len(source)
                step = min(2 * step, _STEP)
            part = inflater.decompress(source, _STEP)
            yield part
        position -= len(inflater.unused_data)
