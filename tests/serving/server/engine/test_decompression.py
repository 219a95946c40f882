import gzip
import zlib

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from serving.server.engine.decompression import EITHER, decompress, decompress_message
from tests.serving.server.assertions import serving_error

MIB = 2**20
MESSAGE = predict_pb2.PredictRequest(output_filter=["y"] * 1000).SerializeToString()


def accept(count):
    """Reserves any number of bytes."""


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_message_is_decompressed_up_to_the_limit(pack):
    packed, size = pack(MESSAGE), len(MESSAGE)
    assert decompress_message(packed, size, accept) == MESSAGE
    error = serving_error(decompress_message, packed, size - 1, accept)
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    for broken in (packed[:-9], packed[:12]):
        error = serving_error(decompress_message, broken, MIB, accept)
        assert error.code is grpc.StatusCode.INTERNAL
        assert "no compressed message" in error.message


def test_a_plain_message_is_unchanged():
    assert decompress_message(MESSAGE, 0, accept) is MESSAGE
    assert decompress_message(b"", 0, accept) == b""


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_memory_is_reserved_per_decompressed_part(pack):
    rng, parts = np.random.default_rng(1), []
    message = rng.bytes(3 * MIB) + bytes(3 * MIB)  # more than a step on either side
    data = pack(message) + b"behind"
    assert decompress(data, EITHER, 9 * MIB, parts.append) == (message, b"behind")
    assert sum(parts) == 6 * MIB and max(parts) <= MIB
