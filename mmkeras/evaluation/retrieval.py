"""Cross-modal retrieval: nearest neighbours of embeddings, and Recall@1, 5 and 10."""

from collections.abc import Mapping
from itertools import permutations

import numpy as np

from mmkeras.evaluation.bootstrap import accuracies, interval

RANKS = (1, 5, 10)
_BLOCK_ROWS = 512


def measure_retrieval(
    vectors: Mapping[str, np.ndarray], resamples: int, seed: int
) -> dict[str, dict]:
    """Measures how often a row's other modality is among the nearest to its query.

    `vectors` is modality -> (N, W) unit vectors of the same rows, zeros where absent.

    Returns:
        "text_to_image" and so on for all ordered pairs -> "rows", the number of rows
        with both modalities, which are searched; "recall_at_1", "recall_at_5" and
        "recall_at_10", each {"value", "low", "high"}; "chance", the same values for a
        random order.
    """
    result = {}
    for query, target in permutations(vectors, 2):
        complete = _is_present(vectors[query]) & _is_present(vectors[target])
        if rows := int(complete.sum()):
            queries, targets = (vectors[m][complete] for m in (query, target))
            recalls = compute_recall(queries, targets)
            values, spread = accuracies(recalls, resamples, seed)
            result[f"{query}_to_{target}"] = {
                "rows": rows,
                **{
                    f"recall_at_{k}": interval(value, samples, rows)
                    for k, value, samples in zip(RANKS, values, spread, strict=True)
                },
                "chance": {f"recall_at_{k}": min(1.0, k / rows) for k in RANKS},
            }
    return result


def compute_recall(queries: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns (3, N) in [0, 1]: whether a target is among its query's nearest `RANKS`.

    `queries` and `targets` are (N, W). Ties count as the average over random orders, so
    that equal vectors for all rows are as good as chance.
    """
    parts = []
    for start in range(0, len(queries), _BLOCK_ROWS):
        similarity = queries[start : start + _BLOCK_ROWS] @ targets.T  # (b, N)
        index = np.arange(len(similarity))
        match = similarity[index, index + start][:, None]
        nearer = (similarity > match).sum(axis=1)
        equal = (similarity == match).sum(axis=1)
        parts.append([np.clip((k - nearer) / equal, 0, 1) for k in RANKS])
    return np.concatenate(parts, axis=1)


def _is_present(vectors):
    return vectors.any(axis=1)


class NearestRows:
    """Rows nearest to a query, collected from batches in constant memory.

    Example:
        >>> nearest = NearestRows(np.array([1.0, 0.0]), limit=1)
        >>> nearest.add(np.array([[0.6, 0.8], [1.0, 0.0]]), ["a", "b"])
        >>> nearest.ranking()
        [(1.0, 'b')]
    """

    def __init__(self, query: np.ndarray, limit: int):
        """`query` is a unit vector (W,); at most `limit` rows are collected."""
        self.query, self.limit = query, limit
        self.searched = 0
        self._nearest = []

    def add(self, vectors: np.ndarray, rows: list) -> None:
        """Adds rows and their (B, W) unit vectors; zero vectors are skipped."""
        cosines = (vectors @ self.query).tolist()
        for row, present, cosine in zip(
            rows, _is_present(vectors), cosines, strict=True
        ):
            if present:
                self._nearest.append((-cosine, self.searched, row))
                self.searched += 1
        self._nearest = sorted(self._nearest, key=lambda entry: entry[:2])[: self.limit]

    def ranking(self) -> list[tuple[float, object]]:
        """Returns (cosine, row), the nearest first; of equal ones the earlier."""
        return [(-cosine, row) for cosine, _, row in self._nearest]
