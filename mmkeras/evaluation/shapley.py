"""Exact Shapley values: how much each of M players contributes to a value."""

from collections.abc import Sequence
from itertools import combinations
from math import factorial

import numpy as np


def subsets(players: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns all 2^M subsets in the order of `players`, from none to all."""
    return [
        subset
        for size in range(len(players) + 1)
        for subset in combinations(players, size)
    ]


def shapley_values(
    values: dict[tuple[str, ...], np.ndarray | float], players: Sequence[str]
) -> dict[str, np.ndarray | float]:
    """Returns each player's Shapley value; they add up to the value of all minus none.

    It is what the player adds to a subset of the others, averaged over all orders
    of the players. A player that never changes the value has 0. `values` has the
    value of each of `subsets(players)`; arrays are handled elementwise.

    Example:
        >>> shapley_values({(): 0.5, ("a",): 0.9}, ["a"])
        {'a': 0.4}

    Source: Shapley, 1953, A value for n-person games, https://doi.org/10.1515/9781400881970-018.
    """
    m = len(players)
    shares = dict.fromkeys(players, 0.0)
    for subset in subsets(players):
        for player in subset:
            others = tuple(p for p in subset if p != player)
            k = len(others)
            weight = factorial(k) * factorial(m - k - 1) / factorial(m)
            shares[player] = shares[player] + weight * (values[subset] - values[others])
    return shares
