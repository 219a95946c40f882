"""Features of token sequences for the linear baseline."""

import numpy as np


def count_tokens(tokens: np.ndarray, vocabulary_size: int) -> np.ndarray:
    """Returns (N, vocabulary_size) float32: log(1 + count of each token) per row.

    `tokens` are (N, L) int from 1 to `vocabulary_size`, 0 in padding.
    """
    counts = np.zeros((len(tokens), vocabulary_size + 1), "float32")
    np.add.at(counts, (np.arange(len(tokens))[:, None], tokens), 1)
    return np.log1p(counts[:, 1:])
