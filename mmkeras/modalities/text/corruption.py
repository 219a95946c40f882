"""Texts with dropped words, for the robustness curves of a report."""

import re

import numpy as np

_WORD = re.compile(r"\S+\s*")


def drop_words(data: bytes, share: float, seed: list[int]) -> bytes:
    """Returns the UTF-8 text with each word dropped with chance `share`.

    With one seed, what is dropped at a lower share is dropped at a higher one, too.
    """
    words = _WORD.findall(data.decode("utf-8", "replace"))
    drawn = np.random.default_rng(seed).random(len(words))
    kept = (word for word, chance in zip(words, drawn, strict=True) if chance >= share)
    return "".join(kept).strip().encode()
