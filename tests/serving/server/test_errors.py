import grpc
import pytest
import tensorflow as tf

from serving.server.errors import from_tensorflow_error, invalid_argument

POO = "\N{PILE OF POO}"


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("a" * 1024, "a" * 1024),
        ("a" * 1025, "a" * 1024 + "...TRUNCATED"),
        (POO * 1024, POO * 256 + "...TRUNCATED"),  # bytes, as gRPC's trailers count
        ("a" + POO * 1024, "a" + POO * 255 + "...TRUNCATED"),
    ],
)
def test_a_message_is_truncated_to_1024_bytes(text, sent):
    assert invalid_argument(text).truncated_message == sent


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (tf.errors.InvalidArgumentError, grpc.StatusCode.INVALID_ARGUMENT),
        (tf.errors.DataLossError, grpc.StatusCode.DATA_LOSS),
        (tf.errors.UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
        (tf.errors.UnimplementedError, grpc.StatusCode.UNIMPLEMENTED),
        (tf.errors.DeadlineExceededError, grpc.StatusCode.DEADLINE_EXCEEDED),
    ],
)
def test_tensorflows_errors_keep_their_code_and_message(error, code):
    result = from_tensorflow_error(error(None, None, "a message"))
    assert (result.code, result.message) == (code, "a message")
