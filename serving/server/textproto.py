"""Reading of text protobuf files, with errors that name the line and allowed fields."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from google.protobuf import descriptor_pb2, message_factory, text_format, wrappers_pb2
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from mmkeras.errors import UserError, did_you_mean
from mmkeras.files import read_text

M = TypeVar("M", bound=Message)
# {message: {field: type}}; a type is as `repeated int64`, or a message's name.
Fields = Mapping[str, Mapping[str, str]]

_NO_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "(.*?)"')
# Position and line at the start of the parser's messages.
_POSITION = re.compile(r"^(\d+:\d+ : )?('.*': )?", re.DOTALL)


def build_messages(fields: Fields) -> dict[str, type[Message]]:
    """Builds {name: class} of messages that no installed package defines.

    Their package name is unique, so the real messages can be imported too. They are for
    text only: their field numbers are arbitrary.
    """
    package = "_".join(["text", *fields])
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    file.dependency.append(wrappers.name)
    for name, types in fields.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(types.items(), start=1):
            _describe(message.field.add(name=field, number=number), kind, package)
    classes = message_factory.GetMessages([wrappers, file])
    return {name: classes[f"{package}.{name}"] for name in fields}


def _describe(
    field: descriptor_pb2.FieldDescriptorProto, kind: str, package: str
) -> None:
    repeated, _, kind = kind.rpartition(" ")
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if f"TYPE_{kind.upper()}" in field.Type.keys():
        field.type = field.Type.Value(f"TYPE_{kind.upper()}")
    else:
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{kind}" if "." in kind else f".{package}.{kind}"


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
        reason = _reason(error, kind.DESCRIPTOR, secret)
        where = "" if error.GetLine() is None else f", line {error.GetLine()}"
        raise UserError(
            f"The file '{path}'{where}: {reason} It must be a {kind.DESCRIPTOR.name} "
            f"in text form, as in: {example}"
        ) from None
    return message


def _reason(error: text_format.ParseError, root: Descriptor, secret: bool) -> str:
    text = str(error)
    if match := _NO_FIELD.search(text):
        message = _find_message(root, match[1])
        if message is not None:
            hint = did_you_mean(match[2], [field.name for field in message.fields])
            return f"there is no field '{match[2]}' in {message.name}.{hint}"
    if secret:
        return "it is not text protobuf."
    reason = " ".join(_POSITION.sub("", text, count=1).split())
    return reason if reason.endswith(".") else f"{reason}."


def _find_message(root: Descriptor, name: str) -> Descriptor | None:
    """Returns the message type of that name: `root` or a type nested in it."""
    if root.full_name == name:
        return root
    inner = (f.message_type for f in root.fields if f.message_type is not None)
    return next(filter(None, (_find_message(kind, name) for kind in inner)), None)
