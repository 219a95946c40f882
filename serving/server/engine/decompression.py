"""Compressed requests, inflated to no more than a limit, and as there is room."""

import zlib
from collections.abc import Callable

import grpc

from serving.server.errors import ServingError, internal

GZIP, EITHER = zlib.MAX_WBITS | 16, zlib.MAX_WBITS | 32  # zlib's numbers for formats
# No message begins so: of gzip's bytes the first has a wire type that there is not,
# and of zlib's the first is a field 15, which no request of these services has.
_STARTS = (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
_STEP = 2**20


class TooLargeError(ServingError):
    """A request of more bytes than are taken."""


def decompressed(data: bytes, most: int, take: Callable[[int], None]) -> bytes:
    """Returns the message of gRPC, which may have come as gzip or deflate.

    Args:
        data: As it came.
        most: Bytes that it may have, inflated.
        take: As for `inflate`.

    Raises:
        ServingError: RESOURCE_EXHAUSTED where it has more, INTERNAL where it cannot be
            inflated; as gRPC has it.
    """
    if not data.startswith(_STARTS):
        return data
    try:
        message, _ = decompress(data, EITHER, most, take)
    except zlib.error as error:
        raise internal(f"The request is no compressed message: {error}") from None
    return message


def decompress(
    data: bytes, kind: int, most: int, take: Callable[[int], None]
) -> tuple[bytes, bytes]:
    """Returns what is compressed at the start of bytes, and the bytes behind it.

    Args:
        data: Compressed bytes.
        kind: GZIP, or EITHER it or deflate.
        most: Bytes that it may be, inflated.
        take: Keeps room for so many bytes more, or raises.

    Raises:
        TooLargeError: RESOURCE_EXHAUSTED.
        zlib.error: It cannot be inflated.
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
        if size > most:
            raise TooLargeError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"Received message larger than max ({most} bytes, inflated)",
            )
        take(len(part))
        parts.append(part)
    return b"".join(parts), stream.unused_data + data[at:]
