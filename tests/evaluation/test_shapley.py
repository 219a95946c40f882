from itertools import permutations

import numpy as np
import pytest

from mmkeras.evaluation.shapley import shapley_values, subsets

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
