from itertools import combinations, permutations

import numpy as np
import pytest

from mmkeras.evaluation.shapley import sampled_orders, shapley_values, subsets

NAMES = ("text", "image", "audio")


def test_subsets_are_ordered_from_none_to_all():
    assert subsets(("a", "b")) == [(), ("a",), ("b",), ("a", "b")]
    assert len(set(subsets(NAMES))) == 8 and subsets(NAMES)[-1] == NAMES


def test_shares_are_the_mean_over_all_orders_of_players():
    rng = np.random.default_rng(1)
    values = {frozenset(s): rng.normal() for s in subsets(NAMES)}
    gains = {m: [] for m in NAMES}
    for order in permutations(NAMES):
        for i, m in enumerate(order):
            before, after = frozenset(order[:i]), frozenset(order[: i + 1])
            gains[m].append(values[after] - values[before])
    shares = shapley_values({s: values[frozenset(s)] for s in subsets(NAMES)}, NAMES)
    assert shares == pytest.approx({m: np.mean(x) for m, x in gains.items()})


MANY = tuple(f"m{i:02d}" for i in range(10))


def interacting_value(subset):
    """A game in which the first player doubles the second, and one is useless."""
    numbers = {MANY.index(name) for name in subset}
    return sum(numbers - {9}) / 10 + (2.0 if {0, 1} <= numbers else 0.0)


@pytest.mark.parametrize("count", [9, 12, 16, 40])
def test_of_many_players_a_bounded_number_of_subsets_is_measured(count):
    players = [f"m{i:02d}" for i in range(count)]
    measured = subsets(players)
    assert len(set(measured)) == len(measured) <= 256
    assert measured[0] == () and measured[-1] == tuple(players)
    assert {len(s) for s in measured} == set(range(count + 1))
    assert measured == sorted(measured, key=lambda s: (len(s), s))
    for name in players:  # what the ablation reads
        assert (name,) in measured
        assert tuple(p for p in players if p != name) in measured


def test_sampled_shares_add_up_and_estimate_the_exact_ones():
    sampled = {s: interacting_value(s) for s in subsets(MANY)}
    every = {s: interacting_value(s) for k in range(11) for s in combinations(MANY, k)}
    shares, exact = shapley_values(sampled, MANY), shapley_values(every, MANY)
    assert exact["m00"] == pytest.approx(1.0) and exact["m01"] == pytest.approx(1.1)
    assert sum(shares.values()) == pytest.approx(sampled[MANY] - sampled[()])
    # An order and its reverse give each of the pair its share once.
    assert shares == pytest.approx(exact)
    assert shares == shapley_values(sampled, MANY)  # the same orders again


def test_each_order_is_followed_by_its_reverse():
    orders = sampled_orders(MANY)
    assert orders[1::2] == [order[::-1] for order in orders[::2]]
    assert all(sorted(order) == list(MANY) for order in orders)
    assert sampled_orders(MANY[:8]) == []
