"""Shapley values: how much each of M players contributes to a value.

They are exact for up to 8 players. Above, where 2^M subsets are too many to measure,
they are unbiased estimates from some orders of the players, which are always the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from math import factorial

import numpy as np

_EXACT_PLAYERS, _SUBSETS = 8, 2**8  # limit of what is measured


def subsets(players: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns subsets in the order of `players`, from none to all.

    They are all 2^M; above 8 players those of `sampled_orders`, each player alone and
    each left out: at most 256 for up to 65 players, 4 M above.
    """
    orders = sampled_orders(players)
    if not orders:
        return list(_all_subsets(players))
    names, everyone = list(players), set(players)
    chosen = {frozenset(order[:k]) for order in orders for k in range(len(names) + 1)}
    chosen |= {frozenset(x) for name in names for x in ([name], everyone - {name})}
    chosen = [tuple(filter(subset.__contains__, names)) for subset in chosen]
    return sorted(chosen, key=lambda x: (len(x), list(map(names.index, x))))


def sampled_orders(players: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns random orders of more than 8 players, each before its reverse; else [].

    Source: Castro, Gomez and Tejada, 2009, https://doi.org/10.1016/j.cor.2008.04.004.
    Reverse orders (antithetic sampling) leave the estimate unbiased.
    """
    m = len(players)
    if m <= _EXACT_PLAYERS:
        return []
    # An order has m - 3 subsets besides those of all orders.
    pairs = max(1, (_SUBSETS - 2 - 2 * m) // (2 * (m - 3)))
    rng = np.random.default_rng(0)
    orders = [tuple(players[i] for i in rng.permutation(m)) for _ in range(pairs)]
    return [x for order in orders for x in (order, order[::-1])]


def shapley_values(
    values: Mapping[tuple[str, ...], np.ndarray | float], players: Sequence[str]
) -> dict[str, np.ndarray | float]:
    """Returns each player's Shapley value; they add up to the value of all minus none.

    It is what the player adds to a subset of the others, averaged over all orders
    of the players. A player that never changes the value has 0. `values` has the
    value of each of `subsets(players)`; arrays are handled elementwise. Above 8 players
    the average is over `sampled_orders`, unless `values` has all 2^M subsets.

    Example:
        >>> shapley_values({(): 0.5, ("a",): 0.9}, ["a"])
        {'a': 0.4}

    Source: Shapley, 1953, A value for n-person games, https://doi.org/10.1515/9781400881970-018.
    """
    orders = sampled_orders(players)
    if orders and not all(subset in values for subset in _all_subsets(players)):
        return _mean_gains(values, players, orders)
    m = len(players)
    shares = dict.fromkeys(players, 0.0)
    for subset in _all_subsets(players):
        for player in subset:
            others = tuple(p for p in subset if p != player)
            k = len(others)
            weight = factorial(k) * factorial(m - k - 1) / factorial(m)
            shares[player] = shares[player] + weight * (values[subset] - values[others])
    return shares


def _all_subsets(players) -> Iterator[tuple[str, ...]]:
    for size in range(len(players) + 1):
        yield from combinations(players, size)


def _mean_gains(values, players, orders) -> dict[str, np.ndarray | float]:
    """Returns what each player adds to those before it, averaged over the orders."""
    shares = dict.fromkeys(players, 0.0)
    for order in orders:
        before, subset = values[()], set()
        for player in order:
            subset.add(player)
            value = values[tuple(filter(subset.__contains__, players))]
            shares[player] = shares[player] + (value - before) / len(orders)
            before = value
    return shares
