"""Random mutations of bytes and of protobuf messages."""

import random

from google.protobuf.message import Message

_LENGTHS = (
    b"\xff\xff\xff\xff\x0f",
    b"\xff" * 9 + b"\x01",
    b"\x80\x80\x04",
    b"\xff\x7f",
)


def mutate(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Returns the bytes after some mutations, with parts of `others` spliced in."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_CHANGES)(rng, changed, others)
    return bytes(changed)


def mutate_message(rng: random.Random, message: Message) -> None:
    """Mutates one value of a message, which stays parseable."""
    fields = message.ListFields()
    if not fields:
        return
    field, value = rng.choice(fields)
    name, is_message = field.name, field.type == field.TYPE_MESSAGE
    if not rng.randrange(12):
        message.ClearField(name)
    elif is_message and field.message_type.GetOptions().map_entry:
        inner = value[rng.choice(sorted(value))]
        if isinstance(inner, Message):
            mutate_message(rng, inner)
    elif is_message:
        repeated = field.label == field.LABEL_REPEATED
        mutate_message(rng, rng.choice(value) if repeated else value)
    elif field.label == field.LABEL_REPEATED:
        at = rng.randrange(len(value))
        value[at] = _other(rng, field, value[at])
        value.extend(value[: rng.choice((0, 0, 1))])
    else:
        setattr(message, name, _other(rng, field, value))


def _other(rng: random.Random, field, value):
    kind = field.cpp_type
    if kind == field.CPPTYPE_STRING and isinstance(value, bytes):
        return mutate(rng, value, [value])
    if kind == field.CPPTYPE_STRING:
        return mutate(rng, value.encode(), [b"\0"]).decode(errors="replace")
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice((0.0, -1.0, 1e38, float("inf"), float("nan")))
    if kind == field.CPPTYPE_BOOL:
        return not value
    small = (0, 1, 2, 3, 7, 9, 10, 14, 19, 20, 23, 255)
    if kind in (field.CPPTYPE_UINT32, field.CPPTYPE_UINT64):
        return rng.choice((*small, 2**31))
    odd = (-1, -(2**31), 2**31 - 1)
    odd += (2**62, -(2**63)) if kind == field.CPPTYPE_INT64 else ()
    return rng.choice(small + odd)


def _at(rng: random.Random, data: bytearray) -> int:
    return rng.randrange(len(data) + 1)


def _flip(rng, data, others):
    for _ in range(rng.choice((1, 1, 3))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng, data, others):
    start = _at(rng, data)
    del data[start : rng.choice((len(data), start + rng.randint(1, 8)))]


def _repeat(rng, data, others):
    start = _at(rng, data)
    part = data[start : start + rng.randint(1, 64)]
    data[start:start] = part * rng.randint(1, 40)


def _splice(rng, data, others):
    other = rng.choice(others) if others else bytes(data)
    start = rng.randrange(len(other) + 1)
    at = _at(rng, data)
    data[at : at + rng.choice((0, 4))] = other[start : start + rng.randint(1, 200)]


def _insert(rng, data, others):
    """Replaces a byte, possibly a length, by a huge number, or inserts bytes."""
    at = _at(rng, data)
    random_bytes = rng.randbytes(rng.randint(1, 16))
    data[at : at + rng.choice((0, 1))] = rng.choice((*_LENGTHS, *[random_bytes] * 4))


_CHANGES = (_flip,) * 7 + (_cut,) * 2 + (_repeat, _splice) + (_insert,) * 2
