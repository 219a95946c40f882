import gzip
import zlib

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from serving.server.deadline import Deadline
from serving.server.engine import decompression
from serving.server.engine.decompression import decompress_gzip, decompress_message
from tests.serving.server.assertions import serving_error

MIB = 2**20
MESSAGE = predict_pb2.PredictRequest(output_filter=["y"] * 1000).SerializeToString()


def accept(count):
    """Reserves any number of bytes."""


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_message_is_decompressed_up_to_the_limit(pack):
    packed, size = pack(MESSAGE), len(MESSAGE)
    assert decompress_message(packed, size, accept, Deadline()) == MESSAGE
    assert decompress_message(MESSAGE, 0, accept, Deadline()) is MESSAGE
    for data, limit, code in (
        (packed, size - 1, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (packed[:-9], MIB, grpc.StatusCode.INTERNAL),
        (packed[:12], MIB, grpc.StatusCode.INTERNAL),
    ):
        error = serving_error(decompress_message, data, limit, accept, Deadline())
        assert error.code is code


def test_memory_is_reserved_per_part_until_the_deadline():
    parts, deadline = [], Deadline()
    body = np.random.default_rng(1).bytes(3 * MIB) + bytes(3 * MIB)
    data = gzip.compress(body)
    assert decompress_gzip(data, 9 * MIB, parts.append, deadline) == body
    assert 6 * MIB <= sum(parts) <= 7 * MIB and max(parts) < 2 * MIB

    def cancel(count):
        parts.append(count)
        deadline.cancel()

    parts.clear()
    error = serving_error(decompress_gzip, data, 9 * MIB, cancel, deadline)
    assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED and len(parts) == 1


def test_the_work_for_a_body_of_many_members_is_linear(monkeypatch):
    inputs = []

    class Inflater:
        def __init__(self, kind, inflater=zlib.decompressobj):
            self._inflater = inflater(kind)

        def decompress(self, data, size):
            inputs.append(len(data))
            return self._inflater.decompress(data, size)

        def __getattr__(self, name):
            return getattr(self._inflater, name)

    monkeypatch.setattr(decompression.zlib, "decompressobj", Inflater)
    body = gzip.compress(b"x") * 20_000
    assert decompress_gzip(body, MIB, accept, Deadline()) == b"x" * 20_000
    assert sum(inputs) < 50 * len(body)
    error = serving_error(decompress_gzip, body + b"-", MIB, accept, Deadline())
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
