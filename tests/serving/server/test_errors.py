import grpc
import pytest
import tensorflow as tf

from serving.server.errors import ServingError, from_tensorflow_error, invalid_argument


def test_a_text_over_1024_characters_ends_in_truncated():
    assert invalid_argument("a" * 1024).sent == "a" * 1024
    assert invalid_argument("a" * 1025).sent == "a" * 1024 + "...TRUNCATED"


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
def test_tensorflows_errors_keep_their_code_and_text(error, code):
    found = from_tensorflow_error(error(None, None, "what it said"))
    assert isinstance(found, ServingError)
    assert (found.code, found.message) == (code, "what it said")
