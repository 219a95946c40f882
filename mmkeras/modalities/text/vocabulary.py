"""Vocabularies of texts, from the number of training rows with each token."""

from collections.abc import Mapping

from mmkeras.config import TextConfig
from mmkeras.modalities.text import wordpiece
from mmkeras.modalities.vocabulary import choose_vocabulary


def fit_vocabulary(
    counts: Mapping[bytes, int], total: int, text: TextConfig
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Returns a vocabulary of tokens or pieces, and their idf.

    `counts` is token or word -> number of training rows that contain it, of `total`.

    Raises:
        UserError: `vocab_size` is too small for any of the words.
    """
    if text.tokens != "wordpiece":
        return choose_vocabulary(counts, total, text.vocab_size, text.min_rows)
    pieces = wordpiece.learn_pieces(counts, text.vocab_size, text.min_rows)
    return pieces, (1.0,) * len(pieces)
