"""What a request may end with instead of an answer: a code and a text."""

import grpc
import tensorflow as tf

# TensorFlow's codes are gRPC's.
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Source: TensorFlow Serving 2.16.1, which cuts the texts that it sends.
_LONGEST = 1024
_CUT = "...TRUNCATED"


class ServingError(Exception):
    """An error that a client sees.

    Attributes:
        code: Status code of gRPC.
        message: Text, as TensorFlow Serving words it.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code, self.message = code, message

    @property
    def sent(self) -> str:
        """The text as it goes over the wire, cut to 1024 bytes of UTF-8.

        As TF Serving counts; 1024 characters would be more than gRPC takes.
        """
        text = self.message.encode(errors="replace")
        if len(text) <= _LONGEST:
            return text.decode()
        return text[:_LONGEST].decode(errors="ignore") + _CUT


def invalid_argument(message: str) -> ServingError:
    """Returns the error of a request that is wrong whatever the server holds."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """Returns the error of a request for what the server does not hold."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    """Returns the error of a request that the model, as it is, cannot answer."""
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)


def from_tensorflow_error(error: tf.errors.OpError) -> ServingError:
    """Returns what TensorFlow's own error is to a client."""
    return ServingError(_CODES[error.error_code], error.message)


def deadline_exceeded(message: str) -> ServingError:
    """Returns the error of a request whose time is over."""
    return ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, message)


def internal(message: str) -> ServingError:
    """Returns the error of bytes that cannot be read, and of a fault of the server."""
    return ServingError(grpc.StatusCode.INTERNAL, message)


def unimplemented(message: str) -> ServingError:
    """Returns the error of what the server does not do."""
    return ServingError(grpc.StatusCode.UNIMPLEMENTED, message)
