"""Cross-modal retrieval: nearest neighbours of embeddings, and Recall@1, 5 and 10."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import permutations
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.special import comb

from mmkeras.evaluation.bootstrap import accuracies, interval
from mmkeras.evaluation.text_metrics import normalize_text

RANKS = (1, 5, 10)
_BLOCK_ROWS = 512


def measure_retrieval(
    vectors: Mapping[str, np.ndarray],
    resamples: int,
    seed: int,
    texts: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> dict[str, dict]:
    """Measures how often a row's other modality is among the nearest to its query.

    `vectors` is modality -> (N, W) unit vectors of the same rows, zeros where absent.
    `texts` is modality -> (N,) texts of those whose rows share texts: each text is
    searched once, and any row with the text of the query's is as right as its own.

    Returns:
        "text_to_image" and so on for all ordered pairs -> "rows", the number of rows
        with both modalities, which are searched; "recall_at_1", "recall_at_5" and
        "recall_at_10", each {"value", "low", "high"}; "chance", the same values for a
        random order.
    """
    result = {}
    for query, target in permutations(vectors, 2):
        complete = _is_present(vectors[query]) & _is_present(vectors[target])
        if not (rows := int(complete.sum())):
            continue
        queries, targets = (vectors[m][complete] for m in (query, target))
        names = texts.get(target, texts.get(query))
        groups = np.arange(len(complete)) if names is None else _group(names)
        groups = searched = groups[complete]
        if target in texts:
            searched, first = np.unique(groups, return_index=True)
            targets = targets[first]
        recalls = compute_recall(queries, targets, groups, searched)
        values, spread = accuracies(recalls, resamples, seed)
        counts = (searched == groups[:, None]).sum(axis=1)
        chance = [_share_of_orders(k, len(searched), counts).mean() for k in RANKS]
        result[f"{query}_to_{target}"] = {
            "rows": rows,
            **{
                f"recall_at_{k}": interval(value, samples, rows)
                for k, value, samples in zip(RANKS, values, spread, strict=True)
            },
            "chance": {
                f"recall_at_{k}": float(share)
                for k, share in zip(RANKS, chance, strict=True)
            },
        }
    return result


def _group(texts: Sequence[str]) -> np.ndarray:
    """Returns a number (N,) per row, equal for equal texts."""
    return np.unique([normalize_text(text) for text in texts], return_inverse=True)[1]


def compute_recall(
    queries: np.ndarray,
    targets: np.ndarray,
    query_groups: np.ndarray | None = None,
    target_groups: np.ndarray | None = None,
) -> np.ndarray:
    """Returns (3, N) in [0, 1]: whether a target is among its query's nearest `RANKS`.

    `queries` are (N, W), `targets` (M, W). The targets of a query are those of its
    group, by default the one in the same row. Ties count as the average over random
    orders, so that equal vectors for all rows are as good as chance.
    """
    if query_groups is None:
        query_groups = target_groups = np.arange(len(queries))
    parts = []
    for start in range(0, len(queries), _BLOCK_ROWS):
        similarity = queries[start : start + _BLOCK_ROWS] @ targets.T  # (b, M)
        is_right = query_groups[start : start + _BLOCK_ROWS, None] == target_groups
        match = np.where(is_right, similarity, -np.inf).max(axis=1, keepdims=True)
        nearer = (similarity > match).sum(axis=1)
        equal = similarity == match
        counts = equal.sum(axis=1), (equal & is_right).sum(axis=1)
        parts.append([_share_of_orders(k - nearer, *counts) for k in RANKS])
    return np.concatenate(parts, axis=1)


def _share_of_orders(first, total, right) -> np.ndarray:
    """Returns the share of random orders with a right one among the first.

    There are `total` things, of which `right` are right.
    """
    first = np.clip(first, 0, total)
    return 1 - comb(total - right, first) / comb(total, first)


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

    def __init__(
        self,
        query: np.ndarray,
        limit: int,
        key: Callable[[Any], Hashable] | None = None,
    ):
        """`query` is a unit vector (W,); at most `limit` rows are collected.

        Of rows with an equal `key` the nearest one is collected.
        """
        self.query, self.limit, self._key = query, limit, key
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
        ranking = sorted(self._nearest, key=lambda entry: entry[:2])
        if self._key:
            first = {}
            for entry in ranking:
                first.setdefault(self._key(entry[2]), entry)
            ranking = list(first.values())
        self._nearest = ranking[: self.limit]

    def ranking(self) -> list[tuple[float, object]]:
        """Returns (cosine, row), the nearest first; of equal ones the earlier."""
        return [(-cosine, row) for cosine, _, row in self._nearest]
