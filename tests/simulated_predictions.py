"""Simulated predictions of a mediocre model."""

import numpy as np
from scipy.special import expit, softmax

TASKS = ("binary", "multiclass", "multilabel")


def simulate(task, n=200, seed=0, classes=(), noise=1.0):
    """Returns targets (N, C), probabilities (N, C) and class names."""
    rng = np.random.default_rng(seed)
    binary, multiclass = ["no", "yes"], ["ape", "bee", "cat", "dog"]
    names = list(classes) or (binary if task == "binary" else multiclass)
    c = len(names)
    logits = noise * rng.normal(size=(n, c))
    if task == "multilabel":
        rates = np.resize([0.2, 0.4, 0.5, 0.6], c)
        targets = (rng.random((n, c)) < rates).astype(int)
        return targets, expit(2 * targets - 1 + logits), names
    frequencies = np.arange(1, c + 1) / np.arange(1, c + 1).sum()
    targets = np.eye(c, dtype=int)[rng.choice(c, n, p=frequencies)]
    return targets, softmax(1.5 * targets + logits, axis=1), names
