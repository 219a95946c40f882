"""Texts with dropped words for the robustness curves of a report."""

import re

import numpy as np

_WORD = re.compile(r"\S+\s*")


def drop_words(data: bytes, share: float, seed: list[int]) -> bytes:
    """Returns the UTF-8 text with each word dropped with probability `share`.

    With one seed, words dropped at a lower share are dropped at a higher one, too.
    """
    words = _WORD.findall(data.decode("utf-8", "replace"))
    draws = np.random.default_rng(seed).random(len(words))
    rest = (word for word, draw in zip(words, draws, strict=True) if draw >= share)
    return "".join(rest).strip().encode()
