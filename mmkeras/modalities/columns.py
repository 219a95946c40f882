"""The columns and branches of a model, built from the settings."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

from mmkeras.config import Config
from mmkeras.config.config import override
from mmkeras.config.validation import check
from mmkeras.config.values import convert
from mmkeras.config.vector import VectorConfig
from mmkeras.errors import UserError, did_you_mean
from mmkeras.modalities.branch import Branch
from mmkeras.modalities.column import Column
from mmkeras.modalities.preprocessing_state import GENERATE
from mmkeras.modalities.tabular.branch import Tabular
from mmkeras.modalities.text.column import Text
from mmkeras.modalities.types import TYPES
from mmkeras.modalities.vector.column import Vector
from mmkeras.schema import MODALITIES, PRESENT

# Names of other tensors of a batch.
_RESERVED = (PRESENT, "target", "weight")
# Members of an entry of `Config.columns` that are no settings of the type.
_TYPE, _KEY, WIDTH, ITEMS = "type", "key", "vector_width", "items"
_END = "_column"  # of keys: no layer has such a name


def column_entry(name: str, value: Any) -> dict[str, Any]:
    """Returns the entry of a column in `Config.columns` as a dict with its type.

    Raises:
        UserError: There is no such type, or a member that is no setting of the type
            has an impossible value.
    """
    entry = dict(value) if isinstance(value, Mapping) else {_TYPE: value}
    kind = entry.get(_TYPE)
    if not isinstance(kind, str) or kind not in TYPES:
        hint = did_you_mean(str(kind), list(TYPES))
        raise UserError(
            f"columns.{name} has the type '{kind}', which is none of "
            f"{', '.join(TYPES)}.{hint}"
        )
    for member in filter(entry.__contains__, (WIDTH, ITEMS)):
        setting = f"columns.{name}.{member}"
        entry[member] = convert(setting, int, entry[member])
        check(entry[member] >= 1, setting, entry[member], "at least 1")
    if _KEY in entry:
        pattern = f"{'|'.join(MODALITIES)}|[A-Za-z][A-Za-z0-9_]*{_END}"
        check(
            re.fullmatch(pattern, str(entry[_KEY])) is not None,
            f"columns.{name}.{_KEY}",
            entry[_KEY],
            f"letters, digits and _ that end with '{_END}', or one of "
            f"{', '.join(MODALITIES)}",
        )
    return entry


def recognised_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of an entry that the content of the table decides."""
    is_vector = entry.get("encoder") == Vector.type
    names = (_TYPE, WIDTH, ITEMS, *(["encoder"] if is_vector else []))
    return {name: entry[name] for name in names if name in entry}


def build_columns(config: Config) -> tuple[Column, ...]:
    """Returns the columns of `config.columns`, in the order of the branches.

    Settings without columns are those of a model of text, image and audio.

    Raises:
        UserError: A type or a setting of a column is not possible.

    Example:
        text, image = build_columns(Config(columns={"title": "text", "cat": "image"}))
    """
    entries = config.columns or dict(zip(MODALITIES, MODALITIES, strict=True))
    columns = [_build_column(n, column_entry(n, v), config) for n, v in entries.items()]
    _set_keys(columns, entries)
    shared = [column for column in columns if getattr(column, "shares_backbone", False)]
    for column in shared:  # one encoder has one shape of input
        same_type = [c for c in shared if c.type == column.type]
        _check_shared(same_type[0], column)
        column.items = max(c.items for c in same_type)
    order = list(TYPES)
    return tuple(sorted(columns, key=lambda column: order.index(column.type)))


def _build_column(name: str, entry: dict[str, Any], config: Config) -> Column:
    kind = TYPES[entry[_TYPE]]
    section = kind.section or kind.type
    values = {k: v for k, v in entry.items() if k not in (_TYPE, _KEY, WIDTH, ITEMS)}
    of_type = getattr(config, section)
    encoder = values.get("encoder", getattr(of_type, "encoder", ""))
    is_vector = kind is Vector
    if kind.has_encoder_of_vectors and encoder == Vector.type:
        is_vector = True
        _check_vector(name, values)
        if not hasattr(of_type, "dropout"):  # images
            section, of_type = Vector.type, config.vector
            values.pop("encoder", None)
    settings = override(of_type, section, values)
    if not config.fusion.has_epochs:  # checks that the encoder fits
        replace(config, **{section: settings})
    if is_vector:
        column = Vector(name, settings, entry.get(WIDTH, 0), kind.type)
    else:
        column = kind(name, settings)
    if not isinstance(column, Branch):
        _check_no_encoder(column, values)
    if ITEMS in entry:
        column.items = entry[ITEMS]
    return column


def _check_vector(name: str, values: Mapping[str, Any]) -> None:
    """Checks that a column of vectors has no settings of another encoder."""
    known = [field.name for field in fields(VectorConfig)]
    for setting in sorted(values.keys() - {"encoder", *known}):
        raise UserError(
            f"columns.{name}.{setting}={values[setting]} has no effect on vectors, "
            f"whose settings are {' and '.join(known)}. Leave it out."
        )


def _check_no_encoder(column: Column, values: Mapping[str, Any]) -> None:
    """Checks the values of a column that has no encoder of its own."""
    for setting in column.encoder_settings:
        if setting in values:
            raise UserError(
                f"columns.{column.name}.{setting}={values[setting]} has no effect, as "
                "numbers and categories have one encoder together: set "
                f"{column.section}.{setting} instead."
            )


def _check_shared(first: Column, column: Column) -> None:
    """Checks that two columns with one encoder have the same settings."""
    for field in fields(column.settings):
        values = [getattr(c.settings, field.name) for c in (first, column)]
        if values[0] != values[1]:
            raise UserError(
                f"columns.{first.name} and columns.{column.name} share an encoder, but "
                f"{column.type}.{field.name} is {values[0]} and {values[1]}. Give both "
                "the same value, or set share to false."
            )


def _set_keys(columns: Iterable[Column], entries: Mapping[str, Any]) -> None:
    """Gives each column a key, which Keras and TensorFlow accept as a name."""
    keys = set(_RESERVED)
    for column in columns:
        entry = column_entry(column.name, entries[column.name])
        key = entry.get(_KEY) or _key(column.name)
        while key.lower() in keys:  # in TensorFlow "A" and "a" are one name
            key += "_"
        keys.add(key.lower())
        column.key = key


def _key(name: str) -> str:
    """Returns a name that no layer has, such as "fused" or "title_encoder"."""
    if name in MODALITIES:  # as in models before columns
        return name
    key = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return f"{key if key[:1].isalpha() else f'column_{key}'}{_END}"


def build_branches(columns: Iterable[Column], config: Config) -> tuple[Branch, ...]:
    """Returns the branches of a model: what each encoder reads.

    A column of media is a branch of its own; all others are one together.
    """
    columns = tuple(columns)
    media = tuple(column for column in columns if isinstance(column, Branch))
    others = [column for column in columns if not isinstance(column, Branch)]
    if not others:
        return media
    tabular = Tabular(others, config.tabular)
    if tabular.name in [branch.name for branch in media]:
        raise UserError(
            f"The column '{tabular.name}' has the name of the branch of numbers and "
            "categories. Rename it."
        )
    return (*media, tabular)


def branch_types(branches: Iterable[Branch], config: Config) -> dict[str, str]:
    """Returns branch -> its type, as `LossConfig` takes it.

    The label of a generator is a text at the end, which can be aligned with branches.
    """
    types = {branch.name: branch.type for branch in branches}
    if config.task == GENERATE:
        (label,) = config.table.label_names
        if label in types:
            raise UserError(
                f"The label column '{label}' has the name of the branch of numbers and "
                "categories. Rename it."
            )
        types[label] = Text.type
    return types
