"""Roles of a table's columns: declared by settings, or recognised by their content."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmkeras.config import Config
from mmkeras.data.table import (
    close_columns,
    label_columns,
    no_column,
    read_sample,
)
from mmkeras.data.tables import BadCell, Embedded, open_table
from mmkeras.errors import UserError, did_you_mean, shorten
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.columns import ITEMS, WIDTH, column_entry
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.items import split_cell
from mmkeras.modalities.types import TYPES
from mmkeras.modalities.vector.column import Vector
from mmkeras.modalities.vector.reading import prepare_vector, vector_width
from mmkeras.names import clean_name
from mmkeras.schema import MODALITIES, STATUS_SEPARATOR

_SAMPLE_ROWS = 2000  # that are looked at
_WIDTH_CELLS = 100  # whose width of a vector is read
# Names of ids, such as "customer_id" and "customerId"; and of what may be one.
_ID_NAME = re.compile(r"(?i:(^|[\W_])(id|uid|uuid|guid)s?$)|[a-z]I[dD]s?$")
_KEY_NAME = re.compile(r"(^|[\W_])(key|index)(e?s)?$", re.IGNORECASE)
_IGNORED = "table.ignore"
# Use of a column that is no input -> the setting that names it.
_SETTINGS = {use: f"table.{use}_column" for use in ("id", "split", "group")}
_SETTINGS |= {"label": "table.label", "": _IGNORED}


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a column of the table is used for, and why.

    `use` is the name of a type, label, id, split or group, or "" if it is not used.
    """

    column: str
    use: str
    reason: str = ""


def find_columns(table: str | Path, config: Config) -> tuple[Config, list[Role]]:
    """Returns the settings with the columns of a table, and the role of each column.

    Declared are columns by `config.columns` and by `config.table`. A column named text,
    image or audio has that type, unless others are declared for it. If nothing is
    declared, the type of each other column is recognised by its content.

    Raises:
        UserError: A declared column is missing, no column can be used, a column of
            vectors has none that can be read, or a column that holds media files has no
            role.
    """
    source = open_table(table, cache_dir=config.table.cache_dir or None)
    sample, header = read_sample(source, _SAMPLE_ROWS), source.columns
    reader = FileReader(source.folder, config.table.max_file_mb)
    read = {name: _read_cells(name, sample) for name in header if name}
    cells = {name: present for name, (present, _) in read.items()}
    entries, roles = _declared(source, config)
    is_declared = bool(entries)
    _add_default_names(entries, roles, header)
    for name in cells:
        if name not in roles:
            roles[name] = _recognise(name, *read[name], reader)
            if is_declared:
                roles[name] = _left_out(roles[name], entries)
            elif roles[name].use:
                entries[name] = {"type": roles[name].use}
    _keep_chosen(entries, roles, config)
    if not entries:
        raise _no_input(source, [roles[name] for name in cells])
    entries = {n: _with_vectors(n, e, cells[n], reader) for n, e in entries.items()}
    entries = {n: _with_items(e, cells[n], reader) for n, e in entries.items()}
    order = list(TYPES)
    entries = dict(sorted(entries.items(), key=lambda x: order.index(x[1]["type"])))
    return replace(config, columns=entries), [roles[name] for name in cells]


def describe_roles(roles: Sequence[Role]) -> str:
    """Returns a line with the role of each column, used or not, and why."""
    parts = []
    for role in roles:
        reason = f" ({role.reason})" if role.reason else ""
        parts.append(f"{role.column}: {role.use or 'not used'}{reason}")
    return f"Columns: {'; '.join(parts)}."


def _read_cells(name: str, sample: Sequence[Mapping]) -> tuple[list[Any], list[str]]:
    """Returns the cells of a column that are present, and the faults of others.

    Of embedded content the first cells are enough.
    """
    cells, faults, embedded = [], [], 0
    for row in sample:
        cell = row[name]
        if isinstance(cell, Embedded):
            embedded += 1
            cell = _read(cell) if embedded <= _WIDTH_CELLS else ""
        if isinstance(cell, BadCell):
            faults.append(cell.reason)
        elif cell.strip() if isinstance(cell, str) else cell:
            cells.append(cell)
    return cells, faults


def _read(cell):
    try:
        return cell.read()
    except Unreadable as error:
        return BadCell(reason=str(error))


def _declared(table, config) -> tuple[dict[str, dict], dict[str, Role]]:
    """Returns the entries of declared columns, and the roles of all that are named."""
    settings, roles = config.table, {}
    for use in ("id", "split", "group"):
        name = clean_name(getattr(settings, f"{use}_column"))
        roles[name] = Role(column=name, use=use)
    for name in label_columns(settings, table.columns):
        roles[name] = Role(column=name, use="label")
    for name in settings.ignored:
        name = clean_name(name)
        _check_exists(name, table, "correct table.ignore")
        roles[name] = Role(column=name, use="", reason=_IGNORED)
    entries = {}
    for name, value in {**settings.declared, **config.columns}.items():
        entry, name = column_entry(name, value), clean_name(name)
        is_flag = name in map(clean_name, settings.declared)
        setting = f"table.{entry['type']}" if is_flag else "columns"
        _check_exists(name, table, f"set {setting}")
        _check_free(name, entry, roles)
        entries[name] = entry
        roles[name] = Role(column=name, use=entry["type"], reason="declared")
    return entries, roles


def _check_exists(name, table, remedy) -> None:
    if name not in table.columns:
        lack = f"has no column '{name}'"
        raise no_column(table.name, table.columns, [name], lack, remedy)


def _check_free(name, entry, roles) -> None:
    """Checks that a declared column has no other use, as of a label among the inputs.

    Raises:
        UserError: It has.
    """
    if name in roles:
        setting = _SETTINGS[roles[name].use]
        raise UserError(
            f"Column '{name}' is declared as {entry['type']}, and {setting} names it, "
            "too. Give one of the two another column."
        )
    if STATUS_SEPARATOR in name:
        raise UserError(
            f"Column '{name}' has '{STATUS_SEPARATOR}' in its name, which separates "
            "columns in the status of a row. Rename it."
        )


def _add_default_names(entries, roles, header) -> None:
    """Adds columns named text, image and audio for types without a column."""
    for name in MODALITIES:
        is_free = name not in {entry["type"] for entry in entries.values()}
        if is_free and name in header and name not in roles:
            entries[name] = {"type": name}
            roles[name] = Role(column=name, use=name, reason="by its name")


def _recognise(
    name: str, cells: Sequence[Any], faults: Sequence[str], reader: FileReader
) -> Role:
    if len(faults) > len(cells):
        reason = f"a cell {faults[0].partition(' (allowed')[0]}"
        return Role(column=name, use="", reason=reason)
    if not cells:
        return Role(column=name, use="", reason="empty")
    kinds = sorted(TYPES.values(), key=lambda kind: kind.rank)
    reasons = ((kind, kind.recognise(cells, reader)) for kind in kinds)
    kind, reason = next((pair for pair in reasons if pair[1]), (None, ""))
    if kind is None or not kind.has_files:
        if id_reason := _like_id(name, cells):
            return Role(column=name, use="", reason=id_reason)
    if kind:
        return Role(column=name, use=kind.type, reason=reason)
    counts = Counter(cells)
    reason = "its content fits no type"
    if len(cells) > 1 and len(counts) in (1, len(cells)):
        reason = "all values are equal" if len(counts) == 1 else "all values differ"
    return Role(column=name, use="", reason=reason)


def _like_id(name: str, cells: Sequence[Any]) -> str:
    """Returns why a column seems to name or count the rows, or what they refer to."""
    if _ID_NAME.search(name):
        return "an id, by its name"
    if len(set(cells)) < len(cells) or len(cells) < 3:
        return ""
    if _KEY_NAME.search(name):
        return "an id, by its name, and all values differ"
    words = [str(cell).strip() for cell in cells]
    if all(word.isdecimal() and len(word) < 19 for word in words):
        numbers = [int(word) for word in words]
        steps = {b - a for a, b in zip(numbers, numbers[1:], strict=False)}
        if steps == {1}:
            return "counts the rows"
    return ""


def _left_out(role: Role, entries: Mapping[str, dict]) -> Role:
    """Returns the role of a column that is not declared, where others are.

    Raises:
        UserError: It holds media files.
    """
    kind = TYPES.get(role.use)
    if kind is None or not kind.has_files:
        looks = f"not declared; {role.reason}" if role.use else role.reason
        return Role(column=role.column, use="", reason=looks)
    names = [name for name, entry in entries.items() if entry["type"] == role.use]
    flag = f"--table.{role.use} {','.join([*names, role.column])}"
    raise UserError(
        f"Column '{role.column}' holds {role.reason} and has no role, as other columns "
        f"are declared. Use it by {flag}, or leave it out by --table.ignore "
        f"{role.column}."
    )


def _keep_chosen(entries, roles, config) -> None:
    """Drops the columns that `table.modalities` leaves out, by type or by name.

    Raises:
        UserError: It names neither a type nor such a column.
    """
    chosen = {clean_name(name) for name in config.table.modality_names}
    known = list(dict.fromkeys((*TYPES, *entries)))
    for name in sorted(chosen - set(known)):
        raise UserError(
            f"table.modalities names '{name}', which is neither a type nor a column "
            f"that the model can use.{did_you_mean(name, known)}"
        )
    for name, entry in list(entries.items()):
        if chosen and not chosen & {name, entry["type"]}:
            del entries[name]
            roles[name] = Role(column=name, use="", reason="table.modalities")


def _no_input(table, roles) -> UserError:
    return UserError(
        f"{table.name} has no column that the model can use. {describe_roles(roles)} "
        f"{close_columns(table.columns, MODALITIES)}Declare the inputs by their types, "
        "such as --table.text NAME or --table.numeric NAME,NAME."
    )


def _with_items(entry, cells, reader) -> dict[str, Any]:
    """Returns the entry with the number of files per cell, where some have several."""
    if not TYPES[entry["type"]].has_files or ITEMS in entry:
        return entry
    count = max((len(split_cell(cell, reader.folder)) for cell in cells), default=1)
    return {**entry, ITEMS: count} if count > 1 else entry


def _with_vectors(name, entry, cells, reader) -> dict[str, Any]:
    """Returns the entry with encoder and width of a column of vectors."""
    kind = TYPES[entry["type"]]
    if kind.has_encoder_of_vectors and cells and Vector.recognise(cells, reader):
        entry = {**entry, "encoder": "vector"}
    is_vector = kind is Vector or entry.get("encoder") == "vector"
    if not is_vector or entry.get(WIDTH) or not cells:
        return entry
    widths = Counter()
    for cell in cells[:_WIDTH_CELLS]:
        try:
            first = split_cell(cell, reader.folder)[0]
            widths[vector_width(prepare_vector(reader.read(first)))] += 1
        except Unreadable as error:  # reported when the row is read
            reason = f"'{shorten(str(cell), 80)}': {error}"
    if not widths:
        raise UserError(
            f"The {name} column should hold .npy vectors, and none of the first "
            f"{len(cells[:_WIDTH_CELLS])} can be read ({reason}). Correct the paths."
        )
    return {**entry, WIDTH: widths.most_common(1)[0][0]}
