"""Decompression of requests up to a size limit and the free memory."""

import zlib
from collections.abc import Callable

import grpc

from serving.server.errors import ServingError, internal

GZIP, EITHER = zlib.MAX_WBITS | 16, zlib.MAX_WBITS | 32  # zlib's numbers for formats
# No protobuf message starts with these bytes: gzip's first byte has an invalid wire
# type, and zlib's is field 15, which no request has.
_STARTS = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_STEP = 2**20


class TooLargeError(ServingError):
    """Request above the size limit."""


def decompress_message(
    data: bytes, limit: int, acquire: Callable[[int], None]
) -> bytes:
    """Returns a gRPC message, decompressed if it is gzip or deflate.

    Raises:
        ServingError: RESOURCE_EXHAUSTED above the limit, INTERNAL for damaged data, as
            in gRPC.
    """
    if not data.startswith(_STARTS):
        return data
    try:
        message, _ = decompress(data, EITHER, limit, acquire)
    except zlib.error as error:
        raise internal(f"The request is no compressed message: {error}") from None
    return message


def decompress(
    data: bytes, kind: int, limit: int, acquire: Callable[[int], None]
) -> tuple[bytes, bytes]:
    """Returns the decompressed stream at the start of `data`, and the bytes behind it.

    Args:
        data: Compressed bytes.
        kind: Format, GZIP or EITHER (gzip or deflate).
        limit: Maximum decompressed bytes.
        acquire: Reserves memory for a number of bytes, or raises.

    Raises:
        TooLargeError: RESOURCE_EXHAUSTED, above the limit.
        zlib.error: The data are damaged.
    """
    stream, parts, size, at, part = zlib.decompressobj(kind), [], 0, 0, b"-"
    while not stream.eof:
        left = stream.unconsumed_tail
        if not left:
            left, at = data[at : at + _STEP], at + _STEP
            if not left and not part:
                raise zlib.error("it ends too early")
        part = stream.decompress(left, _STEP)
        size += len(part)
        if size > limit:
            raise TooLargeError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"Received message larger than max ({limit} bytes, inflated)",
            )
        acquire(len(part))
        parts.append(part)
    return b"".join(parts), stream.unused_data + data[at:]


def decompress_gzip(body, limit, acquire, deadline):
    parts, limit_left = [], limit
    try:
        while body:
            part, body = decompress(body, GZIP, limit_left, acquire)
            parts.append(part)
            limit_left -= len(part)
    except zlib.error as error:
        from serving.server.errors import invalid_argument

        raise invalid_argument(
            f"The body cannot be decompressed as Content-Encoding: gzip: {error}."
        ) from None
    return b"".join(parts)
