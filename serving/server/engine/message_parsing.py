"""Strict parsing of protobuf messages."""

import warnings
from functools import cache
from typing import TypeVar

from google.protobuf import descriptor_pb2, wrappers_pb2
from google.protobuf.message import DecodeError, Message

from mmkeras.environment.protobuf import class_of

_Kind = TypeVar("_Kind", bound=Message)


def parse_message(kind: type[_Kind], data: bytes) -> _Kind:
    """Parses a message of type `kind`, as a field of another message.

    At top level, protobuf's former C++ parser (Python 3.10) only warns if a zero or an
    end-of-group tag cuts a message short; inside another message it reports an error.

    Raises:
        DecodeError: The bytes are not such a message.
    """
    if _is_strict():
        return _from_string(kind, data)
    # Field 1 of BytesValue has the wire format of a message in field 1.
    wrapped = wrappers_pb2.BytesValue(value=data).SerializeToString()
    return _from_string(_wrapper_type(kind), wrapped).message


@cache
def _is_strict() -> bool:
    """Whether the parser reports an error where a tag cuts a message short."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wrappers_pb2.BytesValue.FromString(b"\x00")
            return False
        except DecodeError:
            return True


def _from_string(kind: type[_Kind], data: bytes) -> _Kind:
    try:
        return kind.FromString(data)
    except UnicodeDecodeError:
        raise DecodeError("a text is not UTF-8") from None


@cache
def _wrapper_type(kind: type[Message]) -> type[Message]:
    """Builds a message type with one field of type `kind`."""
    inner = kind.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name=f"serving/server/enclosing/{inner.full_name}.proto",
        package=f"serving.server.enclosing.{inner.full_name}",
        dependency=[inner.file.name],
    )
    field = file.message_type.add(name="Enclosing").field.add(name="message", number=1)
    field.label, field.type = field.LABEL_OPTIONAL, field.TYPE_MESSAGE
    field.type_name = f".{inner.full_name}"
    pool = inner.file.pool
    pool.AddSerializedFile(file.SerializeToString())
    return class_of(pool.FindMessageTypeByName(f"{file.package}.Enclosing"))
