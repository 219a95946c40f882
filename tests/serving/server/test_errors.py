import grpc
import pytest
import tensorflow as tf

from serving.server.errors import (
    from_load_error,
    from_tensorflow_error,
    internal,
    invalid_argument,
)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("a" * 1024, "a" * 1024),
        ("a" * 1025, "a" * 1024 + "...TRUNCATED"),
        ("💩" * 1024, "💩" * 256 + "...TRUNCATED"),  # bytes, as gRPC's trailers count
        ("a" + "💩" * 1024, "a" + "💩" * 255 + "...TRUNCATED"),
    ],
)
def test_a_message_is_truncated_to_1024_bytes(text, sent):
    assert invalid_argument(text).truncated_message == sent


@pytest.mark.parametrize("code", ["INVALID_ARGUMENT", "DATA_LOSS", "UNAUTHENTICATED"])
def test_tensorflows_errors_keep_their_code_and_message(code):
    number = getattr(tf.errors, code)
    kind = tf.compat.v1.errors.exception_type_from_error_code(number)
    result = from_tensorflow_error(kind(None, None, "a message"))
    assert (result.code, result.message) == (grpc.StatusCode[code], "a message")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (FileNotFoundError(2, "No such file", "x"), 5, "[Errno 2] No such file: 'x'"),
        (PermissionError(13, "Permission denied"), 7, "[Errno 13] Permission denied"),
        (OSError(28, "disk full"), 2, "[Errno 28] disk full"),
        (ValueError("not a graph"), 3, "not a graph"),
        (MemoryError(), 8, "MemoryError"),
        (internal("broken"), 13, "broken"),
        (tf.errors.DataLossError(None, None, "cut"), 15, "cut"),
    ],
)
def test_errors_of_files_formats_and_memory_have_a_code(error, code, message):
    result = from_load_error(error)
    assert (result.code.value[0], result.message) == (code, message)


def test_another_error_is_a_bug():
    assert from_load_error(KeyError("bug")) is None
