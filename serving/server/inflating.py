"""Compressed messages of gRPC, inflated to no more than a limit."""

import zlib

import grpc

from serving.server.errors import ServingError, internal

# No message begins so: of gzip's bytes the first has a wire type that there is not,
# and of zlib's the first is a field 15, which no request of these services has.
_GZIP, _ZLIB = b"\x1f\x8b", (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


def inflated(data: bytes, most: int) -> bytes:
    """Returns the message, which may have come as gzip or deflate.

    Args:
        data: As it came.
        most: Bytes that it may have, inflated.

    Raises:
        ServingError: RESOURCE_EXHAUSTED where it has more, INTERNAL where it cannot be
            inflated; as gRPC has it.
    """
    if not data.startswith((_GZIP, *_ZLIB)):
        return data
    stream = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: either format
    try:
        message = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise internal(f"The request is no compressed message: {error}") from None
    if len(message) > most:
        raise ServingError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"Received message larger than max ({most} bytes, inflated)",
        )
    if not stream.eof:
        raise internal("The request is no compressed message: it ends too early")
    return message
