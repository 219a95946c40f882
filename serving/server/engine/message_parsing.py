"""Bytes of messages, read to their end."""

from functools import cache
from typing import TypeVar

from google.protobuf import descriptor_pb2, wrappers_pb2
from google.protobuf.message import DecodeError, Message

from mmkeras.environment.protobuf import class_of

_Kind = TypeVar("_Kind", bound=Message)


def parse_message(kind: type[_Kind], data: bytes) -> _Kind:
    """Returns the message.

    By itself, protobuf's C++ takes a message that a zero or the end of a group cuts
    short, and warns; inside of another one it refuses that.

    Raises:
        DecodeError: The bytes are no such message.
    """
    # Bytes as field 1 look as a message there does.
    enclosed = wrappers_pb2.BytesValue(value=data).SerializeToString()
    try:
        return _enclosing(kind).FromString(enclosed).message
    except UnicodeDecodeError:
        raise DecodeError("a text is not UTF-8") from None


@cache
def _enclosing(kind: type[Message]) -> type[Message]:
    """Makes the type of a message that has one field, of a kind."""
    inner = kind.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name=f"serving/server/enclosing/{inner.full_name}.proto",
        package=f"serving.server.enclosing.{inner.full_name}",
        dependency=[inner.file.name],
    )
    field = file.message_type.add(name="Enclosing").field.add(name="message", number=1)
    field.label, field.type = field.LABEL_OPTIONAL, field.TYPE_MESSAGE
    field.type_name = f".{inner.full_name}"
    pool = inner.file.pool  # of the types that are compiled
    pool.AddSerializedFile(file.SerializeToString())
    return class_of(pool.FindMessageTypeByName(f"{file.package}.Enclosing"))
