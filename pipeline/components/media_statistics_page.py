"""HTML page of media_statistics.json, without external resources."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mmkeras.reports.html import open_templates
from mmkeras.schema import LABEL

TOP_VALUES = 8  # per feature; the JSON file has all


def render(statistics: Mapping) -> str:
    """Returns the HTML of `media_statistics.summarize(...)`."""
    environment = open_templates(Path(__file__).parent)
    environment.filters |= {"count": _count, "percent": _percent}
    splits, columns = statistics["splits"], statistics["columns"]
    return environment.get_template("media_statistics.html.j2").render(
        splits=splits,
        columns=columns,
        charts={n: list(_charts(c["measured"], splits)) for n, c in columns.items()},
        tables={n: list(_tables(c["counted"], splits)) for n, c in columns.items()},
        labels=list(_charts({LABEL: ("Distribution", "")}, splits)),
        classes=_classes(splits, columns),
    )


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.0f} %" if share in (0, 1) else f"{100 * share:.1f} %"


def _figure(value: float, unit: str) -> str:
    """Formats to three digits, or all of an integer; a percentage to a tenth."""
    if unit.startswith("%"):
        return f"{100 * value:.1f}".removesuffix(".0")
    is_whole = abs(value) >= 100 or value == int(value)
    return f"{value:,.0f}" if is_whole else f"{value:.3g}"


def _charts(measured: Mapping, splits: Mapping) -> Iterator[dict]:
    """Yields title, unit and the chart of each split per measured feature."""
    for feature, (title, unit) in measured.items():
        numbers = {
            name: split["numbers"].get(feature) for name, split in splits.items()
        }
        if any(numbers.values()):
            charts = {split: n and _chart(n, unit) for split, n in numbers.items()}
            yield {"title": title, "unit": unit, "splits": charts}


def _chart(number: Mapping, unit: str) -> dict:
    text = {
        key: _figure(number[key], unit)
        for key in ("min", "max", "mean", "deviation", "median", "p05", "p95")
    }
    edges = [_figure(edge, unit) for edge in number["histogram"]["edges"]]
    rows = number["histogram"]["rows"]
    bars = [
        (
            round(max(100 * count / max(rows), 2 * bool(count)), 1),
            f"{low} to {high} {unit}".rstrip() + f": {_count(count)} rows "
            f"({_percent(count / number['rows'])})",
        )
        for count, low, high in zip(rows, edges[:-1], edges[1:], strict=True)
    ]
    return text | {"bars": [] if number["min"] == number["max"] else bars}


def _tables(counted: Mapping, splits: Mapping) -> Iterator[dict]:
    """Yields the shares of the most frequent values of each counted feature."""
    for feature, (title, unit) in counted.items():
        counts = {
            name: Counter(split["values"].get(feature, {}))
            for name, split in splits.items()
        }
        totals = sum(counts.values(), Counter())
        if not totals:
            continue
        rows = {
            _value(value, unit): {
                split: count[value] / max(count.total(), 1)
                for split, count in counts.items()
            }
            for value, _ in totals.most_common(TOP_VALUES)
        }
        yield {"title": title, "rows": rows, "more": len(totals) - len(rows)}


def _value(value: str, unit: str) -> str:
    return f"{int(value):,} {unit}".rstrip() if value.isdecimal() else value


def _classes(splits: Mapping, columns: Iterable[str]) -> list[dict]:
    """Returns the largest classes, with the share of their rows without a column.

    The rows of a class are None in a split where it is not among the largest.
    """
    rows, missing = {}, {}
    is_cut = {
        name: split["classes"]["number"] > len(split["classes"]["largest"])
        for name, split in splits.items()
    }
    for split, content in splits.items():
        for item in content["classes"]["largest"]:
            name = item["name"]
            unknown = {s: None if cut else 0 for s, cut in is_cut.items()}
            rows.setdefault(name, unknown)[split] = item["rows"]
            missing.setdefault(name, Counter()).update(item["missing"])
    totals = {name: sum(n or 0 for n in by.values()) for name, by in rows.items()}
    return [
        {
            "name": name,
            "rows": rows[name],
            "missing": {c: missing[name][c] / totals[name] for c in columns},
        }
        for name in sorted(rows, key=lambda name: (-totals[name], name))
    ]
