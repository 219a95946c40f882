"""Output of explanations: an HTML page and entries of explanations.json."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmkeras.data.example_reader import RowContent
from mmkeras.explanation.explainer import Explanation
from mmkeras.modalities import heatmap
from mmkeras.modalities.column import Column
from mmkeras.reports import charts
from mmkeras.reports.html import write_page
from mmkeras.schema import LABEL_SEPARATOR, VALUE

_WORD_PX = 160  # largest side of the heatmap of one word


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
        **({"words": _words_json(explanation)} if explanation.is_text else {}),
    }


def _words_json(explanation) -> list[dict[str, Any]]:
    return [
        {
            "word": word.word,
            "log_probability": word.log_probability,
            "log_probability_of_nothing": word.empty_log_probability,
            "shares": word.shares,
            "parts": word.parts,
        }
        for word in explanation.words
    ]


def write_explanations(
    path: Path, title: str, cards: Sequence[dict], is_share: bool = True
) -> None:
    """Writes the page of all rows atomically.

    `is_share` is whether probabilities are explained, rather than numbers.
    """
    colours = {"positive": heatmap.POSITIVE, "negative": heatmap.NEGATIVE}
    values = {"title": title, "cards": cards, "colours": colours, "is_share": is_share}
    values["is_text"] = any(c["explanation"].is_text for c in cards)
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
        "words": [_draw_word(read, word, columns) for word in explanation.words],
        "strongest": max(
            (abs(v) for word in explanation.words for v in word.shares.values()),
            default=0,
        ),
    }


def _draw_word(read, word, columns) -> dict[str, Any]:
    """Returns a word's values for the page, with small heatmaps and no media."""
    parts = {}
    for name, part in word.parts.items():
        drawing = columns[name].draw(read.data[name], part)
        if "heatmap" in drawing:
            drawing["heatmap"] = _shrink(drawing["heatmap"])
        parts[name] = drawing
    probability = math.exp(word.log_probability)
    return {"explanation": word, "probability": probability, "parts": parts}


def _shrink(png: bytes) -> bytes:
    """Returns a PNG whose sides are not above `_WORD_PX`."""
    image, file = Image.open(io.BytesIO(png)), io.BytesIO()
    image.thumbnail((_WORD_PX, _WORD_PX))
    image.save(file, "PNG")
    return file.getvalue()
