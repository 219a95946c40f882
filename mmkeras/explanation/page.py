"""Explanations of rows -> a page to look at, and a file to compute with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmkeras.config import Config
from mmkeras.data.example_reader import ReadRow
from mmkeras.explanation import heatmap, occlusion
from mmkeras.explanation.explainer import Explanation
from mmkeras.modalities.audio.excerpt import wave_excerpt
from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.encoding import png_bytes
from mmkeras.modalities.image.reading import upright
from mmkeras.reports import charts
from mmkeras.reports.html import write_page
from mmkeras.schema import AUDIO, IMAGE, LABEL_SEPARATOR, TEXT

_PICTURE_PX = 320


def as_json(read: ReadRow, found: Explanation) -> dict[str, Any]:
    """Returns what explanations.json says of a row."""
    text = read.data.get(TEXT, b"").decode("utf-8", "replace")
    where: dict[str, Any] = {}
    if found.image is not None:
        where[IMAGE] = {"effects": found.image.tolist()}
    if found.text is not None:
        where[TEXT] = [
            {"word": text[start:end], "start": start, "effect": effect}
            for start, end, effect in found.text
        ]
    if found.audio is not None:
        where[AUDIO] = {
            "effects": found.audio.tolist(),
            "band_edges_hz": list(found.band_edges_hz),
            "seconds": found.seconds,
        }
    return {
        "id": read.row.id,
        "label": LABEL_SEPARATOR.join(read.row.labels),
        "predicted": found.predicted,
        "explained": found.explained,
        "probability": found.probability,
        "probability_of_nothing": found.none,
        "status": found.status,
        "problems": list(found.problems),
        "shares": found.shares,
        "where": where,
    }


def write_explanations(path: Path, title: str, cards: Sequence[dict]) -> None:
    """Writes the page of all rows, aside and then in one step."""
    colours = {"for_": heatmap.FOR, "against": heatmap.AGAINST}
    write_page(path, "explain.html.j2", title=title, cards=cards, colours=colours)


def card(
    read: ReadRow, found: Explanation, config: Config, decoders: MediaDecoders
) -> dict[str, Any]:
    """Returns what the page shows of a row."""
    text = read.data.get(TEXT, b"").decode("utf-8", "replace")
    shares = {m: {"value": v, "low": v, "high": v} for m, v in found.shares.items()}
    return {
        "id": read.row.id,
        "label": LABEL_SEPARATOR.join(read.row.labels),
        "found": found,
        "shares": charts.shares(shares),
        "picture": _picture(read.data.get(IMAGE, b""), found, decoders),
        "sound": _sound(read.data.get(AUDIO, b""), found, config, decoders),
        "words": _words(text, found.text),
    }


def _picture(data, found, decoders) -> dict | None:
    if found.image is None:
        return None
    picture = _shown(data, decoders)
    return {
        "plain": png_bytes(picture),
        "heat": heatmap.overlay(picture, found.image),
        "scale": heatmap.scale_of(found.image),
    }


def _shown(data, decoders) -> np.ndarray:
    """The picture as a person sees it, over white: (H, W, 3) uint8."""
    try:
        picture = upright(data).convert("RGBA")
    except Unreadable:  # the graph reads what Pillow does not
        picture = Image.fromarray(decoders.pixels(data)).convert("RGBA")
    ratio = _PICTURE_PX / max(picture.size)
    size = [max(1, round(side * ratio)) for side in picture.size]
    picture = picture.resize(size, Image.Resampling.LANCZOS)
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB"))


def _sound(data, found, config, decoders) -> dict | None:
    if found.audio is None:
        return None
    spectrum = occlusion.spectrum(decoders.wave(data), config.audio.rate_hz)
    return {
        "heat": heatmap.overlay(
            heatmap.spectrogram_image(spectrum), found.audio[::-1]
        ),  # low ones below
        "scale": heatmap.scale_of(found.audio),
        "seconds": found.seconds,
        "top_hz": found.band_edges_hz[-1],
        "played": wave_excerpt(data, config, decoders),
    }


def _words(text, effects) -> dict | None:
    """Pieces of the text in their order, with their share of the full colour."""
    if effects is None:
        return None
    scale = heatmap.scale_of(np.array([effect for *_, effect in effects]))
    pieces, at = [], 0
    for start, end, effect in effects:
        pieces += [
            {"text": text[at:start], "effect": None},
            {"text": text[start:end], "effect": effect, "share": effect / scale},
        ]
        at = end
    pieces.append({"text": text[at:], "effect": None})
    limited = len(effects) == occlusion.MAX_WORDS
    return {"pieces": pieces, "scale": scale, "limit": len(effects) if limited else 0}
