"""Tables as JSON Lines, or as one JSON list or dictionary of columns."""

import json
from collections.abc import Iterator
from functools import partial

from mmkeras.data.tables.content import Content
from mmkeras.data.tables.memory import open_columns, open_mappings
from mmkeras.data.tables.table import Record, Table, clean_columns, convert_row
from mmkeras.errors import UserError, one_line


def open_json(content: Content) -> Table:
    """Returns the table of a JSON file; one with an object per line is streamed.

    Raises:
        UserError: The file is broken or has no object, or columns have the same name.
    """
    with content.open_text() as file:
        lines = (line.strip() for line in file if line.strip())
        first, second = next(lines, ""), next(lines, "")
    is_broken = first.startswith("{") and not first.endswith("[")
    is_lines = _is_object(first) or (is_broken and _is_object(second))
    if is_lines and (second or not _is_columns(first, content.name)):
        return _open_lines(content)
    with content.open_text() as file:
        try:
            values = json.load(file)
        except (ValueError, RecursionError) as error:
            line = getattr(error, "lineno", None)
            place = f" in line {line}" if line else ""
            text = f"{content.name} is not JSON: {_fault(error)}{place}. {_remedy()}"
            raise UserError(text) from None
    kwargs = {"folder": content.folder, "hash_content": content.fingerprint}
    kwargs |= {"note": content.note}
    if isinstance(values, dict):
        columns = {  # pandas writes a dictionary by index
            key: [*column.values()] if isinstance(column, dict) else column
            for key, column in values.items()
        }
        return open_columns(columns, content.name, **kwargs)
    return open_mappings(values, content.name, **kwargs)


def _is_object(line):
    return line.startswith("{") and line.endswith("}")


def _is_columns(line, name):
    """Whether the only object of a file has columns, not cells.

    These are dictionaries by the number of the row, or in a .json file lists.
    """
    try:
        columns = [*json.loads(line).values()]
    except (ValueError, RecursionError):
        return False
    if columns and all(isinstance(column, dict) for column in columns):
        return all(key.isdecimal() for column in columns for key in column)
    is_json = ".json" in name.lower() and ".jsonl" not in name.lower()
    is_lists = columns and all(isinstance(column, list) for column in columns)
    return is_json and is_lists


def _fault(error):
    """Returns what is not JSON, with its column, as the line is named elsewhere."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return one_line(error)


def _remedy():
    return 'Write one object per line: {"text": "hi", "label": "a"}.'


def _open_lines(content):
    keys: dict[str, None] = {}
    for _, row in _objects(content):
        if isinstance(row, dict):
            keys |= dict.fromkeys(row)
    if not keys:
        raise UserError(f"{content.name} has no JSON object with a key. {_remedy()}")
    columns = dict(zip(keys, clean_columns(content.name, keys), strict=True))
    return Table(
        name=content.name,
        folder=content.folder,
        columns=tuple(columns.values()),
        unit="line",
        note=content.note,
        read=partial(_read, content, columns),
        hash_content=content.fingerprint,
    )


def _read(content, columns, used) -> Iterator[Record]:
    raw = {key: column for key, column in columns.items() if column in used}
    for line, row in _objects(content):
        if isinstance(row, dict):
            row = convert_row({c: row.get(key, "") for key, c in raw.items()})
        yield line, row


def _objects(content):
    """Yields (line, object) or (line, problem); skips blank lines."""
    with content.open_text() as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                value = json.loads(line.rstrip())
            except ValueError as error:
                yield number, f"is not JSON: {_fault(error)}"
            except RecursionError:
                yield number, "is JSON with too many levels"
            else:
                fault = f"is of type {type(value).__name__}, not a JSON object"
                yield number, value if isinstance(value, dict) else fault
