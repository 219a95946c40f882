"""Serving errors: a gRPC status code and a message for the client."""

import grpc
import tensorflow as tf

# TensorFlow's codes are gRPC's.
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# Source: TensorFlow Serving 2.16.1, which truncates messages to this length.
_MAX_BYTES = 1024
_TRUNCATED = "...TRUNCATED"
# Codes of Python's errors of files, formats and memory.
_LOAD_CODES = (
    (FileNotFoundError, grpc.StatusCode.NOT_FOUND),
    (PermissionError, grpc.StatusCode.PERMISSION_DENIED),
    (OSError, grpc.StatusCode.UNKNOWN),
    (ValueError, grpc.StatusCode.INVALID_ARGUMENT),
    (MemoryError, grpc.StatusCode.RESOURCE_EXHAUSTED),
)


class ServingError(Exception):
    """Error that is sent to a client.

    Attributes:
        code: gRPC status code.
        message: Text, in TensorFlow Serving's words.
    """

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code, self.message = code, message

    @property
    def truncated_message(self) -> str:
        """The message as it is sent: at most 1024 bytes of UTF-8, as in TF Serving.

        gRPC does not accept 1024 characters of several bytes.
        """
        text = self.message.encode(errors="replace")
        if len(text) <= _MAX_BYTES:
            return text.decode()
        return text[:_MAX_BYTES].decode(errors="ignore") + _TRUNCATED


def invalid_argument(message: str) -> ServingError:
    """Returns the error of a request that no server state makes valid."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """Returns the error of an unknown model or version."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    """Returns the error of a request that does not fit the model's state."""
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)


def from_tensorflow_error(error: tf.errors.OpError) -> ServingError:
    """Converts an error of TensorFlow, with its code and message."""
    return ServingError(_CODES[error.error_code], error.message)


def from_load_error(error: Exception) -> ServingError | None:
    """Converts an error of loading a model; returns None if it is a bug."""
    if isinstance(error, ServingError):
        return error
    if isinstance(error, tf.errors.OpError):
        return from_tensorflow_error(error)
    codes = (code for kind, code in _LOAD_CODES if isinstance(error, kind))
    code = next(codes, None)
    return code and ServingError(code, str(error) or type(error).__name__)


def deadline_exceeded(message: str) -> ServingError:
    """Returns the error of an expired request."""
    return ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, message)


def internal(message: str) -> ServingError:
    """Returns the error of unreadable bytes, or of a bug of the server."""
    return ServingError(grpc.StatusCode.INTERNAL, message)


def unavailable(message: str) -> ServingError:
    """Returns the error of a server that stops."""
    return ServingError(grpc.StatusCode.UNAVAILABLE, message)


def unimplemented(message: str) -> ServingError:
    """Returns the error of an unsupported operation."""
    return ServingError(grpc.StatusCode.UNIMPLEMENTED, message)
