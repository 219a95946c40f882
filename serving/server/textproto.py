"""Reads a file of text protobuf, and says of a bad one where and what is allowed."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from google.protobuf import (
    descriptor_pb2,
    message_factory,
    text_format,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from mmkeras.errors import UserError, did_you_mean
from mmkeras.files import read_text

M = TypeVar("M", bound=Message)
# {message: {field: its type}}, a type as `repeated int64` or the name of a message.
Fields = Mapping[str, Mapping[str, str]]

_NO_FIELD = re.compile(r'Message type "([\w.]+)" has no field named "(.*?)"')
# A position, and the line itself, with which the parser's own messages begin.
_BEFORE = re.compile(r"^(\d+:\d+ : )?('.*': )?", re.DOTALL)


def messages(fields: Fields) -> dict[str, type[Message]]:
    """Returns {name: class} of messages whose protobuf no package here brings.

    They lie in a package of their own, so that the real ones may be imported too. The
    numbers of their fields are of no meaning: they are for text alone.
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
    made = message_factory.GetMessages([wrappers, file])
    return {name: made[f"{package}.{name}"] for name in fields}


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


def read(path: str | Path, kind: type[M], example: str, secret: bool = False) -> M:
    """Reads a file of one message in text form.

    Args:
        path: The file, a local one or a URI.
        kind: Class of the message.
        example: What such a file may say, for the error.
        secret: Whether what the file says must not be repeated in an error.

    Raises:
        UserError: The file cannot be read, or is no such message.
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
            f"The file '{path}'{where}: {reason} It holds a {kind.DESCRIPTOR.name} "
            f"in text form, as in: {example}"
        ) from None
    return message


def _reason(error: text_format.ParseError, root: Descriptor, secret: bool) -> str:
    text = str(error)
    if found := _NO_FIELD.search(text):
        holder = _find(root, found[1])
        if holder is not None:
            hint = did_you_mean(found[2], [field.name for field in holder.fields])
            return f"there is no field '{found[2]}' in {holder.name}.{hint}"
    if secret:
        return "what stands there is not text protobuf."
    words = " ".join(_BEFORE.sub("", text, count=1).split())
    return words if words.endswith(".") else f"{words}."


def _find(root: Descriptor, name: str) -> Descriptor | None:
    """Returns the message of that name, which is `root` or lies somewhere in it."""
    if root.full_name == name:
        return root
    inner = (f.message_type for f in root.fields if f.message_type is not None)
    return next((found for kind in inner if (found := _find(kind, name))), None)
