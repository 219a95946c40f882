import grpc
import pytest
import tensorflow as tf

from serving.server.errors import from_tensorflow_error, invalid_argument


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
