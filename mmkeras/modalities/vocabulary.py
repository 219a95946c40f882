"""Choice of the tokens of a vocabulary by the number of rows that contain them."""

from collections.abc import Mapping

import numpy as np

from mmkeras.modalities.preprocessing_state import NO_TOKENS


def choose_vocabulary(
    counts: Mapping[bytes, int], total: int, size: int, min_rows: int
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Returns the `size` tokens with the most rows, at least `min_rows`, and their idf.

    `counts` is token -> number of rows that contain it, of `total`. Equal counts are
    ordered by the token's bytes, so that the order of the rows does not matter. Without
    any token the vocabulary is `NO_TOKENS`.

    Source: idf as in scikit-learn, ln((1 + N) / (1 + df)) + 1.
    """
    common = [item for item in counts.items() if item[1] >= min_rows]
    top = sorted(common, key=lambda item: (-item[1], item[0]))[:size]
    if not top:
        return NO_TOKENS, (1.0,)
    idf = [float(np.log((1 + total) / (1 + df)) + 1) for _, df in top]
    return tuple(token.decode() for token, _ in top), tuple(idf)
