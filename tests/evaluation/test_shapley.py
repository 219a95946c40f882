from itertools import permutations

import numpy as np
import pytest

from mmkeras.evaluation.shapley import shapley_values, subsets

NAMES = ("text", "image", "audio")


def test_subsets_are_ordered_from_none_to_all():
    assert subsets(("a", "b")) == [(), ("a",), ("b",), ("a", "b")]
    assert len(set(subsets(NAMES))) == 8 and subsets(NAMES)[-1] == NAMES


def test_shares_of_a_sum_are_its_terms():
    terms = {"text": 0.1, "image": 0.5, "audio": -0.2}
    values = {s: 0.3 + sum(terms[m] for m in s) for s in subsets(NAMES)}
    assert shapley_values(values, NAMES) == pytest.approx(terms)


def test_two_players_share_the_value_of_their_pair():
    values = {s: float({"text", "audio"} <= set(s)) for s in subsets(NAMES)}
    shares = shapley_values(values, NAMES)
    assert shares["image"] == 0  # exactly: it never changes the value
    assert shares["text"] == shares["audio"] == pytest.approx(0.5)


def test_shares_of_arrays_add_up_elementwise_to_all_minus_none():
    rng = np.random.default_rng(0)
    values = {s: rng.normal(size=5) for s in subsets(NAMES)}
    total = sum(shapley_values(values, NAMES).values())
    np.testing.assert_allclose(total, values[NAMES] - values[()], atol=1e-12)


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


def test_a_single_player_has_the_full_gain():
    assert shapley_values({(): 0.25, ("a",): 0.75}, ("a",)) == {"a": 0.5}
