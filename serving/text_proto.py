"""TF Serving's configuration files, which are messages of protobuf in text form."""

import re
from functools import cache
from pathlib import Path
from typing import TypeVar

from google.protobuf import text_format, wrappers_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from mmkeras.environment.protobuf import class_of
from mmkeras.errors import UserError, did_you_mean
from mmkeras.files import read_text

M = TypeVar("M", bound=Message)

_PACKAGE = "tensorflow.serving"
_NO_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "(.*?)"')


def config_class(name: str) -> type[Message]:
    """Returns a message class that tensorflow-serving-api lacks: "SSLConfig"."""
    return class_of(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    path = Path(__file__).with_name("config_messages.textproto")
    file = text_format.Parse(path.read_text(encoding="utf-8"), FileDescriptorProto())
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def read_text_proto(
    path: str | Path, kind: type[M], example: str, secret: bool = False
) -> M:
    """Reads a file of one message in text form.

    Args:
        path: Local path or URI.
        kind: Class of the message.
        example: Example of a valid file, for the error.
        secret: Whether errors must not quote the file.

    Raises:
        UserError: The file cannot be read, or is not such a message.
    """
    try:
        text = read_text(path)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"The file '{path}' cannot be read: {reason}.") from None
    except UnicodeDecodeError:
        raise UserError(f"The file '{path}' is not text in UTF-8.") from None
    message = kind()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        # TF Serving's words, then what is allowed.
        raise UserError(
            f"Invalid protobuf file: '{path}': Error parsing text-format "
            f"{kind.DESCRIPTOR.full_name}: {_reason(error, kind.DESCRIPTOR, secret)} "
            f"Example: {example}"
        ) from None
    return message


def _reason(error: text_format.ParseError, root: Descriptor, secret: bool) -> str:
    text = " ".join(str(error).split())
    if match := _NO_FIELD.search(text):
        message = _find_message(root, match[1])
        names = [field.name for field in message.fields] if message else []
        text = f"{error.GetLine()}:{error.GetColumn()}: {match[0]}."
        return text + did_you_mean(match[2], names)
    if secret:
        return f"{error.GetLine()}:{error.GetColumn()}: it is not text protobuf."
    return text if text.endswith(".") else f"{text}."


def _find_message(root: Descriptor, name: str) -> Descriptor | None:
    """Returns the message type of that name: `root` or a type nested in it."""
    if root.full_name == name:
        return root
    inner = (f.message_type for f in root.fields if f.message_type is not None)
    return next(filter(None, (_find_message(kind, name) for kind in inner)), None)
