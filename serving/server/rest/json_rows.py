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
from serving.server.rest.json_document import parse_json, parse_list

_SMALL = 2**14  # bytes of a body that is parsed at once
_STEP = 2**20  # bytes that are scanned at once
_GROUP = 2**18  # bytes of rows that are parsed at once, or one row
_MAX_LISTS = 64  # lists and objects in the document's object
# Values that are parsed at once, in about half a second.
_MAX_VALUES = 2**22
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
    """JSON object of a body, perhaps without its rows.

    Attributes:
        members: Object; the list of rows is empty if `unparsed` is not None.
        key: Name of the rows, "instances" or "examples".
        unparsed: Number of rows that are not parsed yet; None: `members` has all.
    """

    members: dict[str, Any]
    key: str
    unparsed: int | None = None
    _parse: Callable[[int], Iterator[tuple[int, list]]] = lambda value_bytes: iter(())

    def count_rows(self) -> int:
        """Returns the number of rows; 0 if there is no list of rows."""
        rows = self.members.get(self.key)
        if self.unparsed is None:
            return len(rows) if isinstance(rows, list) else 0
        return self.unparsed

    def groups(self, value_bytes: int = _VALUE_BYTES) -> Iterator[tuple[int, list]]:
        """Iterates over the index of the first row of a group, and its rows.

        Memory is reserved for `value_bytes` of each value, as long as the request runs.
        """
        if self.unparsed is None:
            return iter([(0, self.members[self.key])])
        return self._parse(value_bytes)


def read_document(
    body: bytes | bytearray, key: str, acquire: Acquire, deadline: Deadline
) -> Document:
    """Returns the document of a body.

    Args:
        body: JSON.
        key: Name of the rows, "instances" or "examples".
        acquire: Reserves the memory of the parsed values.
        deadline: Deadline of the request, also of the iteration.

    Raises:
        ServingError: INVALID_ARGUMENT if the body is no JSON object or has too many
            values outside rows, DEADLINE_EXCEEDED; or any error of `acquire`.
    """
    if len(body) <= _SMALL:
        acquire(len(body) * _VALUE_BYTES // 2)
        return Document(parse_json(body), key)
    scan = _Scan()
    scan.run(body, deadline)
    span = scan.find_rows(body, key)
    if span is None:
        if scan.values + scan.containers > _MAX_VALUES:
            raise invalid_argument(
                f"The body has {scan.values + scan.containers} values, and the limit "
                f"is {_MAX_VALUES} without rows in '{key}'"
            )
        acquire(
            2 * len(body)
            + _VALUE_BYTES * scan.values
            + _CONTAINER_BYTES * scan.containers
        )
        return Document(parse_json(body), key)
    start, end = span
    view = memoryview(body)
    members = parse_json(b"".join((view[: start + 1], view[end:])))
    count = scan.commas_before(end) - scan.commas_before(start)
    if not count and not view[start + 1 : end].tobytes().strip():
        return Document(members, key, 0)
    cuts = [start, *(at for at in scan.cuts if start < at < end), end]
    parse = partial(_parse_groups, body, cuts, acquire, deadline)
    return Document(members, key, count + 1, parse)


def _parse_groups(
    body, cuts, acquire: Acquire, deadline: Deadline, value_bytes: int
) -> Iterator[tuple[int, list]]:
    index = 0
    for start, end in pairwise(cuts):
        if deadline.is_over:
            raise deadline_exceeded("The time was over while the rows were read.")
        part = bytes(memoryview(body)[start + 1 : end])
        values = part.count(b",")
        if values > _MAX_VALUES:
            raise invalid_argument(
                f"Row {index} has {values} values, and the limit is {_MAX_VALUES}"
            )
        acquire(len(part) + value_bytes * values)
        rows = parse_list(part)
        if not rows:
            raise invalid_argument(f"JSON Parse error: row {index} is missing")
        yield index, rows
        index += len(rows)


@dataclass
class _Scan:
    """Positions in a body, found by a scan of its brackets, commas and strings.

    Attributes:
        cuts: Commas between values in lists of the document's object, about _GROUP
            bytes apart.
        values: Commas outside strings.
        containers: Lists and objects.
    """

    cuts: list[int] = field(default_factory=list)
    values: int = 0
    containers: int = 0
    _edges: list[int] = field(default_factory=list)  # where such lists begin and end
    _counts: list[int] = field(default_factory=list)  # commas in such lists before
    _depth: int = 0
    _in_string: int = 0
    _commas: int = 0

    def run(self, body: bytes | bytearray, deadline: Deadline) -> None:
        """Scans the body."""
        at = 0
        while at < len(body):
            if deadline.is_over:
                raise deadline_exceeded("The time was over while the body was read.")
            part = bytes(memoryview(body)[at : at + _STEP])
            if (len(part) - len(part.rstrip(b"\\"))) % 2:  # within an escape
                part = bytes(memoryview(body)[at : at + _STEP + 1])
            self._add(part.replace(rb"\\", b"--").replace(rb"\"", b"--"), at)
            at += len(part)

    def _add(self, part: bytes, offset: int) -> None:
        characters = np.frombuffer(part, np.uint8)
        in_string = np.cumsum(characters == ord('"'), dtype=np.uint8) + self._in_string
        outside = (in_string & 1) == 0
        self._in_string = int(in_string[-1]) & 1
        change = _DEPTH[characters] * outside
        depth = np.cumsum(change, dtype=np.int32) + np.int32(self._depth)
        self._depth = int(depth[-1])
        commas = (characters == ord(",")) & outside
        self.values += int(np.count_nonzero(commas))
        self.containers += int(np.count_nonzero(change == 1))
        at_edge = ((change == 1) & (depth == 2)) | ((change == -1) & (depth == 1))
        between_rows = np.flatnonzero(commas & (depth == 2)) + offset
        for edge in np.flatnonzero(at_edge)[: 2 * _MAX_LISTS + 1].tolist():
            self._edges.append(edge + offset)
            before = int(np.searchsorted(between_rows, edge + offset))
            self._counts.append(self._commas + before)
        while True:
            last = self.cuts[-1] if self.cuts else 0
            index = int(np.searchsorted(between_rows, last + _GROUP))
            if index == len(between_rows):
                break
            self.cuts.append(int(between_rows[index]))
        self._commas += len(between_rows)

    def commas_before(self, edge: int) -> int:
        """Returns the number of commas in lists of the document before an edge."""
        return self._counts[self._edges.index(edge)]

    def find_rows(self, body: bytes | bytearray, key: str) -> tuple[int, int] | None:
        """Returns where the list of rows begins and ends; None: there is no such list.

        Also None if the body is no valid JSON.
        """
        edges = self._edges
        if self._depth or self._in_string or len(edges) > 2 * _MAX_LISTS:
            return None
        for start, end in zip(edges[::2], edges[1::2], strict=False):
            before = bytes(memoryview(body)[max(0, start - 100) : start])
            name = _NAME.search(before)
            if body[start] == ord("[") and name and name[1].decode() == key:
                return start, end
        return None
