"""Tables of results in Markdown and CSV, and the numbers in them."""

import csv
import io
from collections.abc import Callable, Sequence


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown with its columns in line, to be read as it is too.

    The first column is set to the left, the others to the right.
    """
    cells = [list(map(str, row)) for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    sides: list[Callable] = [str.ljust] + [str.rjust] * (len(widths) - 1)
    lines = [
        "| "
        + " | ".join(s(c, w) for s, c, w in zip(sides, row, widths, strict=True))
        + " |"
        for row in cells
    ]
    rule = "|" + "|".join(
        "-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)
    )
    return "\n".join([lines[0], rule + "|", *lines[1:]])


def with_interval(value: dict[str, float | None] | None) -> str:
    """Returns as ".512 (.455 to .567)"; "" of nothing."""
    if not value or value["value"] is None:
        return ""
    if value.get("low") is None:
        return share(value["value"])
    return f"{share(value['value'])} ({share(value['low'])} to {share(value['high'])})"


def share(value: float) -> str:
    """Returns a number from -1 to 1 as ".512" or "1.000"."""
    text = f"{value:.3f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else text


def csv_text(rows: Sequence[dict]) -> str:
    """Returns rows of the same keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
