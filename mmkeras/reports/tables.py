"""Tables of results in Markdown."""

from collections.abc import Callable, Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table; the first column is aligned left, the others right."""
    cells = [list(map(str, row)) for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    pads: list[Callable] = [str.ljust] + [str.rjust] * (len(widths) - 1)
    lines = []
    for row in cells:
        columns = zip(pads, row, widths, strict=True)
        lines.append(f"| {' | '.join(pad(cell, w) for pad, cell, w in columns)} |")
    first, *others = widths
    rule = "|".join(["-" * (first + 2), *("-" * (w + 1) + ":" for w in others)])
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def format_interval(value: dict[str, float | None] | None) -> str:
    """Returns ".512 (.455 to .567)", or "" for an unknown value."""
    if not value or value["value"] is None:
        return ""
    if value.get("low") is None:
        return format_share(value["value"])
    number, low, high = (format_share(value[k]) for k in ("value", "low", "high"))
    return f"{number} ({low} to {high})"


def format_share(value: float) -> str:
    """Returns a number from -1 to 1 as ".512" or "1.000"."""
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text
