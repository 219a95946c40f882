"""media_statistics.json -> a page that needs nothing beside it."""

from collections.abc import Mapping
from pathlib import Path

from mmkeras.reports.html import open_templates
from mmkeras.schema import (
    AUDIO,
    AUDIO_CHANNELS,
    AUDIO_CLIPPED,
    AUDIO_RATE,
    AUDIO_SECONDS,
    AUDIO_SILENT,
    IMAGE,
    IMAGE_CHANNELS,
    IMAGE_HEIGHT,
    IMAGE_WIDTH,
    TEXT,
    TEXT_CHARACTERS,
)

# Bar charts are drawn in these units and scaled by the browser.
WIDTH, HEIGHT, BASE = 260, 96, 78
TOP_VALUES = 8  # of one fact; the file has all
TITLES = {TEXT: "Texts", IMAGE: "Pictures", AUDIO: "Sounds"}
# Fact -> modality, its name, and its unit. The order is that of the page.
NUMBERS = {
    TEXT_CHARACTERS: (TEXT, "Length", "characters"),
    IMAGE_WIDTH: (IMAGE, "Width", "px"),
    IMAGE_HEIGHT: (IMAGE, "Height", "px"),
    AUDIO_SECONDS: (AUDIO, "Length", "s"),
    AUDIO_SILENT: (AUDIO, "Silence", "% of a sound"),
    AUDIO_CLIPPED: (AUDIO, "Clipping", "% of a sound"),
}
VALUES = {
    IMAGE_CHANNELS: (IMAGE, "Channels", ""),
    AUDIO_RATE: (AUDIO, "Sample rate", "Hz"),
    AUDIO_CHANNELS: (AUDIO, "Channels", ""),
}


def render(statistics: Mapping) -> str:
    """Returns the HTML of `media_totals.summarize(...)`."""
    environment = open_templates(Path(__file__).parent)
    environment.filters |= {"count": _count, "percent": _percent}
    splits = statistics["splits"]
    return environment.get_template("media_statistics.html.j2").render(
        splits=splits,
        modalities=statistics["modalities"],
        titles=TITLES,
        charts={m: _charts(m, splits) for m in statistics["modalities"]},
        tables={m: _tables(m, splits) for m in statistics["modalities"]},
        clipped_from=statistics["clipped_from"],
        classes=_classes(splits, statistics["modalities"]),
        box={"width": WIDTH, "height": HEIGHT, "base": BASE},
    )


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.0f} %" if share in (0, 1) else f"{100 * share:.1f} %"


def _figure(value: float, unit: str) -> str:
    """Returns three digits, or all of a whole number; a share to a tenth of a %."""
    if unit.startswith("%"):
        return f"{100 * value:.1f}".removesuffix(".0")
    is_whole = value >= 100 or value == int(value)
    return f"{value:,.0f}" if is_whole else f"{value:.3g}"


def _charts(modality, splits) -> list[dict]:
    """Returns one chart a split for each number that is known of the modality."""
    charts = []
    for fact, (owner, title, unit) in NUMBERS.items():
        cells = {split: found["numbers"].get(fact) for split, found in splits.items()}
        if owner == modality and any(cells.values()):
            charts.append(
                {
                    "title": title,
                    "unit": unit + " · log scale" * _is_log(cells),
                    "cells": {s: c and _cell(c, unit) for s, c in cells.items()},
                }
            )
    return charts


def _is_log(cells) -> bool:
    return any(c["histogram"]["is_log"] for c in cells.values() if c)


def _cell(number: Mapping, unit: str) -> dict:
    edges = number["histogram"]["edges"]
    low, high, mean = (_figure(number[k], unit) for k in ("p05", "p95", "mean"))
    spread = _figure(number["deviation"], unit)
    return {
        "median": _figure(number["median"], unit),
        "range": f"{low} to {high}",
        "mean": f"{mean} ± {spread}",
        "extremes": f"{_figure(number['min'], unit)} to {_figure(number['max'], unit)}",
        "only": _figure(number["min"], unit) if edges[0] == edges[-1] else "",
        "bars": _bars(number, unit),
        "labels": _labels(edges, unit),
    }


def _bars(number, unit) -> list[dict]:
    edges, rows = number["histogram"]["edges"], number["histogram"]["rows"]
    step, tallest = WIDTH / max(len(rows), 1), max(rows, default=0)
    bars = []
    for i, count in enumerate(rows):
        between = f"{_figure(edges[i], unit)} to {_figure(edges[i + 1], unit)} {unit}"
        share = _percent(count / number["rows"])
        if count:
            bars.append(
                {
                    "x": round(i * step + 0.5, 1),
                    "width": round(max(step - 1, 1), 1),
                    "height": round(max(BASE * count / tallest, 1.5), 1),
                    "words": f"{between}: {_count(count)} rows ({share})",
                }
            )
    return bars


def _labels(edges, unit) -> list[tuple[float, str, str]]:
    """Returns (x, anchor, words) of the first edge, one in the middle and the last."""
    last = len(edges) - 1
    places = {0: "start", last // 2: "middle", last: "end"}
    return [
        (round(WIDTH * i / max(last, 1), 1), anchor, _figure(edges[i], unit))
        for i, anchor in places.items()
    ]


def _tables(modality, splits) -> list[dict]:
    """Returns shares of the most frequent values of what is counted by value."""
    tables = []
    for fact, (owner, title, unit) in VALUES.items():
        counts = {
            split: found["values"].get(fact, {}) for split, found in splits.items()
        }
        if owner != modality or not any(counts.values()):
            continue
        whole = {}
        for found in counts.values():
            for value, rows in found.items():
                whole[value] = whole.get(value, 0) + rows
        top = sorted(whole, key=whole.get, reverse=True)[:TOP_VALUES]
        rows = {
            _value(value, unit): {
                split: found.get(value, 0) / max(sum(found.values()), 1)
                for split, found in counts.items()
            }
            for value in top
        }
        tables.append({"title": title, "rows": rows, "more": len(whole) - len(top)})
    return tables


def _value(value, unit) -> str:
    return f"{int(value):,} {unit}".rstrip() if value.isdecimal() else value


def _classes(splits, modalities) -> list[dict]:
    """Returns the largest classes, with the share of their rows without a modality.

    None stands for the rows in a split where the class is not among the largest.
    """
    rows, missing = {}, {}
    for split, found in splits.items():
        for one in found["classes"]["largest"]:
            name = one["name"]
            rows.setdefault(name, _unknown(splits))[split] = one["rows"]
            sums = missing.setdefault(name, dict.fromkeys(modalities, 0))
            for modality, count in one["missing"].items():
                sums[modality] += count
    totals = {name: sum(n or 0 for n in found.values()) for name, found in rows.items()}
    return [
        {
            "name": name,
            "rows": rows[name],
            "missing": {m: n / totals[name] for m, n in missing[name].items()},
        }
        for name in sorted(rows, key=lambda name: (-totals[name], name))
    ]


def _unknown(splits):
    classes = {split: found["classes"] for split, found in splits.items()}
    return {
        s: None if c["number"] > len(c["largest"]) else 0 for s, c in classes.items()
    }
