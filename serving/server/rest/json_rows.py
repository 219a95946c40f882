"""Rows of a large JSON body, found before they are parsed and parsed in groups.

A parser that builds a large document at once blocks all other threads and needs many
times the memory of the body. So a body is scanned first, by numpy and in steps: the
number of rows is known before any is parsed, and groups of rows are parsed one by one.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from serving.server.deadline import Deadline
from serving.server.errors import deadline_exceeded, invalid_argument
from serving.server.rest.json_document import parse_json, parse_object

_SMALL = 2**14  # bytes of a body that is parsed at once
_STEP = 2**20  # bytes that are scanned at once
_GROUP = 2**18  # bytes of rows that are parsed at once, or one row
_MAX_EDGES = 128  # ends of lists and objects in the document's object
_MAX_VALUES = 2**22  # that are parsed at once, in about half a second
# Memory of a value as an object and in an array, and of a list or an object.
_VALUE_BYTES, _CONTAINER_BYTES = 64, 200
NUMBER_BYTES = 16  # of a number in arrays, which are joined at the end
_NAME = re.compile(rb'"(instances|examples)"[ \t\r\n]*:[ \t\r\n]*\Z')
_DEPTH = np.zeros(256, np.int8)
_DEPTH[list(b"[{")], _DEPTH[list(b"]}")] = 1, -1

# acquire(bytes) reserves memory, or raises ServingError
Acquire = Callable[[int], None]


@dataclass(frozen=True)
class Document:
    """JSON object of a body.

    Attributes:
        members: Object, perhaps without its rows.
        row_count: Number of rows; 0 if there is no list of rows.
        groups: groups(bytes per value) iterates over the index of the first row of a
            group, and its rows. Memory is reserved for each value that it parses.
    """

    members: dict[str, Any]
    row_count: int
    groups: Callable[..., Iterator[tuple[int, list]]]


def read_document(
    body: bytes | bytearray, key: str, acquire: Acquire, deadline: Deadline
) -> Document:
    """Returns the document of a body, whose rows are named "instances" or "examples".

    Raises:
        ServingError: INVALID_ARGUMENT if the body is no JSON object or has too many
            values outside rows, DEADLINE_EXCEEDED; or any error of `acquire`.
    """
    if len(body) <= _SMALL:
        acquire(len(body) * _VALUE_BYTES // 2)
        return _parse_at_once(body, key)
    scan = _Scan()
    scan.run(body, deadline)
    span = scan.find_rows(body, key)
    if span is None:
        name = f"The body without rows in '{key}'"
        # Strings are copied once more than in groups of rows.
        size = 2 * len(body)
        _reserve(acquire, name, size, scan.commas, scan.containers, _VALUE_BYTES)
        return _parse_at_once(body, key)
    start, end, row_count = span
    rest = body[: start + 1] + body[end:]
    reserve_values(rest, acquire, "The body without its rows")
    members = parse_object(rest)
    cuts = [start, *(at for at in scan.cuts if start < at < end), end]
    groups = partial(_parse_groups, body, cuts, acquire, deadline)
    return Document(members, row_count, groups)


def _parse_at_once(body: bytes | bytearray, key: str) -> Document:
    members = parse_object(body)
    rows = members.get(key)
    return build_document(rows if isinstance(rows, list) else [], members)


def build_document(rows: list, members: dict[str, Any] | None = None) -> Document:
    """Returns a document of parsed rows, which are its "instances" by default."""
    members = {"instances": rows} if members is None else members
    return Document(members, len(rows), lambda *_: iter([(0, rows)]))


def _parse_groups(
    body, cuts: list[int], acquire, deadline: Deadline, value_bytes: int = _VALUE_BYTES
) -> Iterator[tuple[int, list]]:
    index = 0
    for start, end in pairwise(cuts):
        if deadline.is_over:
            raise deadline_exceeded("The time was over while the rows were read.")
        part = b"[%b]" % body[start + 1 : end]
        reserve_values(part, acquire, f"Row {index}", value_bytes)
        rows = parse_json(part)
        if not rows:
            raise invalid_argument(f"JSON Parse error: row {index} is missing")
        yield index, rows
        index += len(rows)


def reserve_values(
    text: bytes | bytearray, acquire: Acquire, name: str, value_bytes=_VALUE_BYTES
) -> None:
    """Reserves the memory of parsed JSON, or raises ServingError for too many values.

    Commas and brackets in strings count too.
    """
    values, containers = text.count(b","), text.count(b"[") + text.count(b"{")
    _reserve(acquire, name, len(text), values, containers, value_bytes)


def _reserve(
    acquire, name: str, size: int, values: int, containers: int, value_bytes: int
) -> None:
    if values + containers > _MAX_VALUES:
        raise invalid_argument(
            f"{name} has {values + containers} values, and the limit is {_MAX_VALUES}"
        )
    acquire(size + value_bytes * values + _CONTAINER_BYTES * containers)


@dataclass
class _Scan:
    """Scan of a body's brackets, commas and strings.

    Attributes:
        commas: Commas outside strings.
        containers: Lists and objects.
        cuts: Commas between values in lists of the document's object, about _GROUP
            bytes apart.
        edges: Where lists and objects of the document's object begin and end, with the
            number of commas between their values before.
    """

    commas: int = 0
    containers: int = 0
    cuts: list[int] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)
    _depth: int = 0
    _in_string: int = 0
    _row_commas: int = 0

    def run(self, body: bytes | bytearray, deadline: Deadline) -> None:
        """Scans a body in steps."""
        at = 0
        while at < len(body):
            if deadline.is_over:
                raise deadline_exceeded("The time was over while the body was read.")
            part = body[at : at + _STEP]
            if (len(part) - len(part.rstrip(b"\\"))) % 2:  # within an escape
                part = body[at : at + _STEP + 1]
            self._add(part.replace(rb"\\", b"--").replace(rb"\"", b"--"), at)
            at += len(part)

    def _add(self, part: bytes | bytearray, offset: int) -> None:
        characters = np.frombuffer(part, np.uint8)
        quotes = np.cumsum(characters == ord('"'), dtype=np.uint8) + self._in_string
        outside, self._in_string = (quotes & 1) == 0, int(quotes[-1]) & 1
        change = _DEPTH[characters] * outside
        depth = np.cumsum(change, dtype=np.int32) + np.int32(self._depth)
        self._depth = int(depth[-1])
        commas = (characters == ord(",")) & outside
        self.commas += int(np.count_nonzero(commas))
        self.containers += int(np.count_nonzero(change == 1))
        between_rows = np.flatnonzero(commas & (depth == 2)) + offset
        is_edge = ((change == 1) & (depth == 2)) | ((change == -1) & (depth == 1))
        for at in (np.flatnonzero(is_edge)[: _MAX_EDGES + 1] + offset).tolist():
            before = self._row_commas + int(np.searchsorted(between_rows, at))
            self.edges.append((at, before))
        last = self.cuts[-1] if self.cuts else 0
        while (i := np.searchsorted(between_rows, last + _GROUP)) < len(between_rows):
            last = int(between_rows[i])
            self.cuts.append(last)
        self._row_commas += len(between_rows)

    def find_rows(self, body: bytes, key: str) -> tuple[int, int, int] | None:
        """Returns where the list of rows begins and ends, and their number, if any.

        Returns None if there is no such list, or the body is no valid JSON.
        """
        if self._depth or self._in_string or len(self.edges) > _MAX_EDGES:
            return None
        edges = zip(self.edges[::2], self.edges[1::2], strict=False)
        for (start, before), (end, commas) in edges:
            name = _NAME.search(body[max(0, start - 100) : start])
            if body[start] == ord("[") and name and name[1].decode() == key:
                count = commas - before
                is_empty = not count and not body[start + 1 : end].strip()
                return None if is_empty else (start, end, count + 1)
        return None
