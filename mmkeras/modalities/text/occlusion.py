"""Texts with one word hidden at a time, and the effects of the words in colour."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MAX_WORDS = 200
# Chinese and Japanese have no spaces between words: each character is one.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\s\u3040-\u30ff\u3400-\u9fff]+")


def find_words(text: str) -> list[tuple[int, int]]:
    """Returns (start, end) of the first words, at most `MAX_WORDS`."""
    return [match.span() for match in _WORD.finditer(text)][:MAX_WORDS]


def remove_words(text: str, spans: list[tuple[int, int]]) -> Iterator[bytes]:
    """Yields the text in UTF-8 without one word at a time."""
    for start, end in spans:
        yield (text[:start] + text[end:]).strip().encode()


def colour_words(text: str, effects: Sequence[Mapping]) -> dict[str, Any]:
    """Returns pieces of the text in order, with their share of the full colour.

    `effects` are {"word", "start", "effect"} in the order of the text.
    """
    from mmkeras.modalities import heatmap

    scale = heatmap.scale_of([entry["effect"] for entry in effects])
    pieces, position = [], 0
    for entry in effects:
        word, start, effect = entry["word"], entry["start"], entry["effect"]
        pieces += [
            {"text": text[position:start], "effect": None},
            {"text": word, "effect": effect, "share": effect / scale},
        ]
        position = start + len(word)
    pieces.append({"text": text[position:], "effect": None})
    is_limited = len(effects) == MAX_WORDS
    return {"pieces": pieces, "scale": scale, "limit": len(effects) * is_limited}
