"""Output of explanations: an HTML page and entries of explanations.json."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mmkeras.config import Config
from mmkeras.data.example_reader import RowContent
from mmkeras.explanation import heatmap, occlusion
from mmkeras.explanation.explainer import Explanation
from mmkeras.modalities.audio.excerpt import wave_excerpt
from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.image.encoding import png_bytes, upright_image
from mmkeras.reports import charts
from mmkeras.reports.html import write_page
from mmkeras.schema import AUDIO, IMAGE, LABEL_SEPARATOR, TEXT, VALUE

_IMAGE_PX = 320


def as_json(read: RowContent, explanation: Explanation) -> dict[str, Any]:
    """Returns a row's entry of explanations.json."""
    text = read.data.get(TEXT, b"").decode("utf-8", "replace")
    parts: dict[str, Any] = {}
    name = VALUE if explanation.is_number else "probability"
    if explanation.image is not None:
        parts[IMAGE] = {"effects": explanation.image.tolist()}
    if explanation.text is not None:
        parts[TEXT] = [
            {"word": text[start:end], "start": start, "effect": effect}
            for start, end, effect in explanation.text
        ]
    if explanation.audio is not None:
        parts[AUDIO] = {
            "effects": explanation.audio.tolist(),
            "band_edges_hz": list(explanation.band_edges_hz),
            "seconds": explanation.seconds,
        }
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
        "where": parts,
    }


def write_explanations(
    path: Path, title: str, cards: Sequence[dict], is_share: bool = True
) -> None:
    """Writes the page of all rows atomically.

    `is_share` is whether probabilities are explained, rather than values.
    """
    colours = {"positive": heatmap.POSITIVE, "negative": heatmap.NEGATIVE}
    values = {"title": title, "cards": cards, "colours": colours, "is_share": is_share}
    write_page(path, "explain.html.j2", **values)


def build_card(
    read: RowContent, explanation: Explanation, config: Config, decoders: MediaDecoders
) -> dict[str, Any]:
    """Returns a row's values for the page."""
    data = {m: read.data.get(m, b"") for m in (TEXT, IMAGE, AUDIO)}
    shares = explanation.shares.items()
    shares = {m: {"value": v, "low": v, "high": v} for m, v in shares}
    return {
        "id": read.row.id,
        "label": LABEL_SEPARATOR.join(read.row.labels),
        "explanation": explanation,
        "shares": charts.shares(shares),
        "image": _image(data[IMAGE], explanation, decoders),
        "audio": _audio(data[AUDIO], explanation, config, decoders),
        "words": _words(data[TEXT].decode("utf-8", "replace"), explanation.text),
    }


def _image(data, explanation, decoders) -> dict | None:
    if explanation.image is None:
        return None
    image = _resize(data, decoders)
    return {
        "original": png_bytes(image),
        "heatmap": heatmap.overlay(image, explanation.image),
        "scale": heatmap.scale_of(explanation.image),
    }


def _resize(data, decoders) -> np.ndarray:
    """Returns the image upright and on white, (H, W, 3) uint8."""
    image = upright_image(data, decoders).convert("RGBA")
    ratio = _IMAGE_PX / max(image.size)
    size = [max(1, round(side * ratio)) for side in image.size]
    image = image.resize(size, Image.Resampling.LANCZOS)
    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image).convert("RGB"))


def _audio(data, explanation, config, decoders) -> dict | None:
    if explanation.audio is None:
        return None
    wave = decoders.wave(data)
    spectrum = occlusion.compute_spectrum(wave, config.audio.rate_hz)
    image = heatmap.spectrogram_image(spectrum)
    return {
        "heatmap": heatmap.overlay(image, explanation.audio[::-1]),  # low at the bottom
        "scale": heatmap.scale_of(explanation.audio),
        "seconds": explanation.seconds,
        "top_hz": explanation.band_edges_hz[-1],
        "excerpt": wave_excerpt(data, config, decoders),
    }


def _words(text, effects) -> dict | None:
    """Returns pieces of the text in order, with their share of the full colour."""
    if effects is None:
        return None
    scale = heatmap.scale_of(np.array([effect for *_, effect in effects]))
    pieces, position = [], 0
    for start, end, effect in effects:
        pieces += [
            {"text": text[position:start], "effect": None},
            {"text": text[start:end], "effect": effect, "share": effect / scale},
        ]
        position = end
    pieces.append({"text": text[position:], "effect": None})
    is_limited = len(effects) == occlusion.MAX_WORDS
    return {"pieces": pieces, "scale": scale, "limit": len(effects) * is_limited}
