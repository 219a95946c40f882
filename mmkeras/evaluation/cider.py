"""CIDEr-D: agreement of texts with their references in rare n-grams."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

_ORDERS = 4  # n-grams of 1 to 4 words
_SIGMA = 6.0  # words, of the penalty for a difference in length
_SCALE = 10.0


def measure_cider(
    references: Sequence[Sequence[str]], texts: Sequence[str]
) -> np.ndarray:
    """Measures the CIDEr-D of N texts.

    Words are what white space separates. An n-gram's weight in a text is its count
    times log(N / rows with a reference that has it), so n-grams of every row weigh
    nothing; with one row these are all n-grams of its references, and its score is 0.
    The similarity of two texts is the cosine of their weights, where the text's are cut
    at the reference's, times a Gaussian of the difference in words. It is averaged over
    n-grams of 1 to 4 words and over the references of the row, and multiplied by 10. A
    text equal to all its references has 10 if it has at least 4 words, 2.5 fewer for
    each order without weights.

    Args:
        references: References of each row, at least one.
        texts: Normalized texts, as are the references.

    Returns:
        (N,) float64 in [0, 10].

    Source: Vedantam et al., 2015, https://arxiv.org/abs/1411.5726. Counts are not
    divided by the text's length, as in the authors' program: otherwise the cut would
    not be one of counts. An n-gram of no reference counts as one of a single row.
    """
    rows = [[_count_ngrams(text) for text in row] for row in references]
    frequency = Counter()  # n-gram -> rows
    for row in rows:
        frequency.update(set().union(*row))
    log_rows = math.log(len(rows)) if rows else 0.0

    def weigh(text: str, counts: Counter) -> tuple:
        weights = [{} for _ in range(_ORDERS)]
        for ngram, count in counts.items():
            idf = log_rows - math.log(max(1, frequency[ngram]))
            weights[len(ngram) - 1][ngram] = count * idf
        return weights, [math.hypot(*each.values()) for each in weights], _words(text)

    scores = np.zeros(len(texts))
    for i, (row, text) in enumerate(zip(references, texts, strict=True)):
        candidate = weigh(text, _count_ngrams(text))
        scores[i] = np.mean(
            [
                _similarity(candidate, weigh(reference, counts))
                for reference, counts in zip(row, rows[i], strict=True)
            ]
        )
    return _SCALE * scores


def _words(text: str) -> int:
    return len(text.split())


def _count_ngrams(text: str) -> Counter:
    """Counts the n-grams, tuples of 1 to 4 words."""
    words = text.split()
    return Counter(
        tuple(words[i : i + n])
        for n in range(1, _ORDERS + 1)
        for i in range(len(words) - n + 1)
    )


def _similarity(candidate: tuple, reference: tuple) -> float:
    """Returns the similarity in [0, 1] of two texts' weights, norms and words."""
    weights, norms, words = candidate
    reference_weights, reference_norms, reference_words = reference
    total = 0.0
    for n in range(_ORDERS):
        if norm := norms[n] * reference_norms[n]:
            limits = reference_weights[n]
            shared = weights[n].keys() & limits.keys()
            dot = sum(min(weights[n][k], limits[k]) * limits[k] for k in shared)
            total += dot / norm
    penalty = math.exp(-((words - reference_words) ** 2) / (2 * _SIGMA**2))
    return penalty * total / _ORDERS
