"""Functions of protobuf whose names differ between supported releases."""

import inspect

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message


def class_of(descriptor: Descriptor) -> type[Message]:
    """Returns the message class of a descriptor."""
    if hasattr(message_factory, "GetMessageClass"):  # since protobuf 4.22
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(descriptor.file.pool).GetPrototype(descriptor)


# Argument of `json_format.MessageToJson` that prints fields without a value; renamed in
# protobuf 5.26.
_PRINT_DEFAULTS = "always_print_fields_with_no_presence"
DEFAULTS = {
    _PRINT_DEFAULTS
    if _PRINT_DEFAULTS in inspect.signature(json_format.MessageToJson).parameters
    else "including_default_value_fields": True
}
