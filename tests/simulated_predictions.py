"""Answers of a model that is neither good nor bad."""

import numpy as np
from scipy.special import expit, softmax

TASKS = ("binary", "multiclass", "multilabel")


def simulate(task, n=200, seed=0):
    """A middling model: targets (N, C), probabilities (N, C) and class names."""
    rng = np.random.default_rng(seed)
    names = ["no", "yes"] if task == "binary" else ["ape", "bee", "cat", "dog"]
    c = len(names)
    noise = rng.normal(size=(n, c))
    if task == "multilabel":
        targets = (rng.random((n, c)) < [0.2, 0.4, 0.5, 0.6]).astype(int)
        return targets, expit(2 * targets - 1 + noise), names
    common = np.arange(1, c + 1) / np.arange(1, c + 1).sum()
    targets = np.eye(c, dtype=int)[rng.choice(c, n, p=common)]
    return targets, softmax(1.5 * targets + noise, axis=1), names
