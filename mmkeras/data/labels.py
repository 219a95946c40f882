"""Class names: parsing of label cells, and warnings of labels that look alike."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from unicodedata import normalize

from mmkeras.errors import shorten
from mmkeras.modalities.items import parse_list
from mmkeras.names import clean_name
from mmkeras.schema import LABEL_SEPARATOR

_VARIATION = re.compile("[\u200c\u200d\ufe0e\ufe0f]")
_NUMBER = re.compile(
    r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?0*[0-9]{1,2})?"
)
_TRUE, _FALSE = {"1", "true", "yes"}, {"0", "false", "no"}
_NOTHING = {"nan", "none", "null", "n/a", "na", "<na>"}
# "[...]", or parts with commas or semicolons between, but no decimal comma.
_LIST = re.compile(r"\[.*\]|(?![+-]?\d+,\d+$)[^,;]+[,;][,;\s]*[^,;\s].*", re.DOTALL)
_SHOWN_GROUPS, _SHOWN_CHARACTERS = 10, 40  # in one warning


def fold_label(label: str) -> str:
    """Returns one name for labels that differ in form only.

    Lower case, plain letters and digits (Unicode's form NFKC: no full width, ligature
    or superscript), one form of a number ("1.0", "+1" and "1e0" are "1"), "none" for
    nan, None, null, NA and N/A, and no joiners.
    """
    plain = normalize("NFKC", _VARIATION.sub("", label))
    # A full-width bar is no separator.
    plain = plain.replace(LABEL_SEPARATOR, "\uff5c")
    folded = clean_name(plain.casefold()) or label
    if folded in _NOTHING:
        return "none"
    if _NUMBER.fullmatch(folded):
        number = f"{Decimal(folded):f}"
        number = number.rstrip("0").rstrip(".") if "." in number else number
        return "0" if number == "-0" else number
    return folded


def parse_labels(cell: str, join: bool) -> tuple[str, ...]:
    """Returns the labels of a cell without duplicates; `join` folds them.

    Example:
        parse_labels("cat|dog", join=False)  # ("cat", "dog"), as of '["cat", "dog"]'
    """
    labels = map(clean_name, split_cell(cell))
    return tuple(dict.fromkeys(fold_label(x) if join else x for x in labels if x))


def split_cell(cell: str) -> list[str]:
    """Returns the labels of a cell as written."""
    parts = parse_list(cell)
    parts = [cell] if parts is None else map(str, parts)
    return [label for part in parts for label in part.split(LABEL_SEPARATOR)]


def parse_flags(cells: Mapping[str, str]) -> tuple[tuple[str, ...], str]:
    """Returns the names of the columns that are true, and the problem of the row.

    Columns are class names; cells are 0 or 1, true or false, yes or no.
    """
    flags = {name: fold_label(cell) for name, cell in cells.items()}
    for name, flag in flags.items():
        if flag not in _TRUE | _FALSE:
            cell, allowed = _quote(cells[name]), "0, 1, false, true, no, yes"
            return (), f"column '{name}' is {cell} (allowed: {allowed})"
    return tuple(name for name, flag in flags.items() if flag in _TRUE), ""


def warn_lookalikes(cells: Iterable[str], classes: Collection[str]) -> list[str]:
    """Warns of labels that look alike, and names whether they are one class.

    `cells` are the label cells as written, `classes` the names that they became.
    """
    groups = defaultdict(dict)  # folded label -> {label as written: clean label}
    for part in sorted({part for cell in cells for part in split_cell(cell)}):
        if label := clean_name(part):
            groups[fold_label(label)][part.strip()] = label
    texts, are_joined = [], True
    for group in groups.values():
        if len(group) > 1:
            names = {label for label in group.values() if label in classes}
            result = f"{len(names)} classes" if len(names) > 1 else "one class"
            are_joined &= len(names) <= 1
            texts.append(f"{', '.join(map(_quote, group))} ({result})")
    if not texts:
        return []
    more = len(texts) - _SHOWN_GROUPS
    shown = texts[:_SHOWN_GROUPS] + ([f"{more} more groups"] if more > 0 else [])
    hint = " Correct them, or train with --table.join_labels true to join them."
    return [f"Labels look alike: {'; '.join(shown)}.{'' if are_joined else hint}"]


def warn_lists(
    cells: Mapping[str, int], labels: Mapping[str, Sequence[str]]
) -> list[str]:
    """Warns if most label cells, cell -> number of rows, have other separators.

    `labels` are those that each cell became.
    """
    lists = [
        cell
        for cell in cells
        if LABEL_SEPARATOR not in cell
        and _LIST.fullmatch(cell.strip())
        and parse_list(cell) is None
    ]
    rows = sum(cells[cell] for cell in lists)
    if rows * 2 <= sum(cells.values()):
        return []
    parts = [part.strip(" \"'") for part in re.split("[,;]", lists[0].strip(" []"))]
    classes = len({label for cell in lists for label in labels[cell]})
    result = f"{classes} classes" if classes > 1 else "one class"
    return [
        f"{rows} label cells look like lists, such as {_quote(lists[0].strip())}; as "
        f"only '{LABEL_SEPARATOR}' and JSON separate labels, they became {result}. "
        f"Write {_quote(LABEL_SEPARATOR.join(parts))} if they have several labels."
    ]


def _quote(label: str) -> str:
    """Quotes a label, with escapes for what would be invisible."""
    composed = normalize("NFC", label)
    text = "".join(
        c
        if c.isprintable() and c in composed and not _VARIATION.match(c)
        # `ascii` keeps the ASCII letter that a combining mark follows.
        else ascii(c)[1:-1]
        for c in label
    )
    return f"'{shorten(text, _SHOWN_CHARACTERS)}'"
