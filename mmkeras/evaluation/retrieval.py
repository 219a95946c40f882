"""Rows found by another modality's vector: the nearest, and how often it is right."""

from collections.abc import Mapping
from itertools import permutations

import numpy as np

from mmkeras.evaluation.metrics import accuracies, interval

RANKS = (1, 5, 10)
_BLOCK_ROWS = 512


def recalls(
    vectors: Mapping[str, np.ndarray], resamples: int, seed: int
) -> dict[str, dict]:
    """Measures how often a row is among the nearest to its own other modality.

    Args:
        vectors: Modality -> (N, W) unit vectors of the same rows, zeros where absent.
        resamples: Behind the 95 % intervals.
        seed: Of the resamples.

    Returns:
        "text_to_image" and so on, for all ordered pairs -> "rows", those that have
        both and are searched; "recall_at_1", "recall_at_5" and "recall_at_10", each
        {"value", "low", "high"}; "chance", what a random order gives of the same.
    """
    found = {}
    for query, sought in permutations(vectors, 2):
        both = _there(vectors[query]) & _there(vectors[sought])
        if rows := int(both.sum()):
            hits = recall(vectors[query][both], vectors[sought][both])
            values, drawn = accuracies(hits, resamples, seed)
            each = zip(RANKS, values, drawn, strict=True)
            found[f"{query}_to_{sought}"] = {
                "rows": rows,
                **{f"recall_at_{k}": interval(v, draws) for k, v, draws in each},
                "chance": {f"recall_at_{k}": min(1.0, k / rows) for k in RANKS},
            }
    return found


def recall(queries: np.ndarray, sought: np.ndarray) -> np.ndarray:
    """Tells for each of N rows whether it is among the nearest 1, 5 and 10.

    Rows that are as near as the right one stand in a random order with it; what that
    gives on average counts, so that equal vectors for all rows are no success.

    Args:
        queries, sought: (N, W) each.

    Returns:
        (3, N), from 0 to 1.
    """
    parts = []
    for start in range(0, len(queries), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        similar = queries[block] @ sought.T  # (b, N)
        own = similar[np.arange(len(similar)), np.arange(len(similar)) + start][:, None]
        nearer, as_near = (similar > own).sum(axis=1), (similar == own).sum(axis=1)
        parts.append([np.clip((k - nearer) / as_near, 0, 1) for k in RANKS])
    return np.concatenate(parts, axis=1)


def _there(vectors):
    return vectors.any(axis=1)


class Nearest:
    """Keeps the rows nearest to a query, of any number that pass by."""

    def __init__(self, query: np.ndarray, most: int):
        """`query` is a unit vector (W,); at most `most` rows are kept."""
        self.query, self.most = query, most
        self.searched = 0
        self._kept = []

    def add(self, vectors: np.ndarray, rows: list) -> None:
        """Takes (B, W) unit vectors in, and what stands for them; zeros are no rows."""
        similar = (vectors @ self.query).tolist()
        for row, there, value in zip(rows, _there(vectors), similar, strict=True):
            if there:
                self._kept.append((-value, self.searched, row))
                self.searched += 1
        self._kept = sorted(self._kept, key=lambda kept: kept[:2])[: self.most]

    def found(self) -> list[tuple[float, object]]:
        """Returns (cosine, row), the nearest first; of equal ones the earlier."""
        return [(-value, row) for value, _, row in self._kept]
