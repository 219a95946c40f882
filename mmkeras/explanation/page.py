"""Output of explanations: an HTML page and entries of explanations.json."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmkeras.data.example_reader import RowContent
from mmkeras.explanation.explainer import Explanation
from mmkeras.modalities import heatmap
from mmkeras.modalities.column import Column
from mmkeras.reports import charts
from mmkeras.reports.html import write_page
from mmkeras.schema import LABEL_SEPARATOR, VALUE


def as_json(read: RowContent, explanation: Explanation) -> dict[str, Any]:
    """Returns a row's entry of explanations.json."""
    name = VALUE if explanation.is_number else "probability"
    orders = explanation.sampled_orders
    return {
        "id": read.row.id,
        "label": LABEL_SEPARATOR.join(read.row.labels),
        "predicted": explanation.predicted,
        "explained": explanation.explained,
        name: explanation.probability,
        f"{name}_of_nothing": explanation.empty_probability,
        "status": explanation.status,
        "problems": list(explanation.problems),
        "shares": explanation.shares,
        **({"sampled_orders": orders} if orders else {}),
        "where": explanation.parts,
    }


def write_explanations(
    path: Path, title: str, cards: Sequence[dict], is_share: bool = True
) -> None:
    """Writes the page of all rows atomically.

    `is_share` is whether probabilities are explained, rather than values.
    """
    colours = {"positive": heatmap.POSITIVE, "negative": heatmap.NEGATIVE}
    values = {"title": title, "cards": cards, "colours": colours, "is_share": is_share}
    values["orders"] = max((c["explanation"].sampled_orders for c in cards), default=0)
    write_page(path, "explain.html.j2", **values)


def build_card(
    read: RowContent, explanation: Explanation, columns: Mapping[str, Column]
) -> dict[str, Any]:
    """Returns a row's values for the page."""
    shares = explanation.shares.items()
    shares = {m: {"value": v, "low": v, "high": v} for m, v in shares}
    return {
        "id": read.row.id,
        "label": LABEL_SEPARATOR.join(read.row.labels),
        "explanation": explanation,
        "shares": charts.shares(shares),
        "parts": {
            name: columns[name].draw(read.data[name], part)
            for name, part in explanation.parts.items()
        },
    }
