"""Exact Shapley shares: how much of a value each of M players brings."""

from collections.abc import Sequence
from itertools import product
from math import factorial

import numpy as np


def subsets(players: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns all 2^M subsets in the order of `players`, from none to all."""
    chosen = product((False, True), repeat=len(players))
    return sorted(
        (
            tuple(p for p, there in zip(players, choice, strict=True) if there)
            for choice in chosen
        ),
        key=lambda subset: (len(subset), [players.index(p) for p in subset]),
    )


def shapley_values(
    values: dict[tuple[str, ...], np.ndarray | float], players: Sequence[str]
) -> dict[str, np.ndarray | float]:
    """Returns each player's share; they add up to the value of all less that of none.

    A share is what the player adds to a subset of the others, averaged over all orders
    in which the players may come. One that never changes the value has share 0.

    Args:
        values: The value of each of `subsets(players)`; arrays are taken number by
            number.
        players: Their M names.

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
