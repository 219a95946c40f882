import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.components.quantile_sketch import MAX_BARS, QuantileSketch, bar_edges

RNG = np.random.default_rng(0)
SAMPLES = {
    "lengths": RNG.lognormal(5, 1, 5000).round() + 1,
    "seconds": RNG.lognormal(1, 1, 5000),
    "shares": np.concatenate([np.zeros(500), RNG.random(400), np.ones(100)]),
    "sizes": np.repeat([224.0, 300.0, 512.0, 4000.0], [30, 40, 20, 10]),
    "nothing": np.zeros(7),
}
NUMBERS = st.lists(st.floats(0, 1e9) | st.integers(0, 5000), max_size=60)


def sketch_of(values):
    sketch = QuantileSketch()
    for value in values:
        sketch.add(float(value))
    return sketch


def merged(parts):
    whole = QuantileSketch()
    for part in parts:
        whole.merge(sketch_of(part))
    return whole


@pytest.mark.parametrize("name", SAMPLES)
def test_a_sketch_merged_from_parts_describes_the_numbers(name):
    values = SAMPLES[name]
    sketch = merged(np.array_split(RNG.permutation(values), 7))
    assert (sketch.rows, sketch.low, sketch.high) == (
        len(values),
        values.min(),
        values.max(),
    )
    assert sketch.mean == pytest.approx(values.mean())
    assert sketch.deviation == pytest.approx(values.std())
    for share in (0, 0.05, 0.5, 0.95, 1):
        true = np.quantile(values, share, method="lower")
        assert sketch.quantile(share) == pytest.approx(true, rel=0.001)


def test_whole_numbers_up_to_a_thousand_are_exact():
    sketch = sketch_of(range(1001))
    assert [sketch.quantile(n / 1000) for n in range(1001)] == list(range(1001))


@given(st.lists(NUMBERS, max_size=5))
def test_it_does_not_matter_how_numbers_are_parted(parts):
    whole, other = sketch_of(v for part in parts for v in part), merged(parts)
    assert whole.bins == other.bins and whole.rows == other.rows
    assert (whole.low, whole.high) == (other.low, other.high)
    assert other.mean == pytest.approx(whole.mean)
    assert other.squares == pytest.approx(whole.squares, rel=1e-6, abs=1e-6)


def test_a_share_of_one_is_exact():
    assert sketch_of([0.2, 1.0, 1.0]).quantile(0.9) == 1


def test_a_quantile_is_never_beyond_the_numbers():
    for value in (0.3, 0.7, 1e-3, 1e9, 1e13, 3e-5):
        assert sketch_of([value] * 3).quantile(0.5) == value


def test_nothing_is_a_sketch_too():
    assert QuantileSketch().quantile(0.5) == 0 and QuantileSketch().deviation == 0
    assert bar_edges(QuantileSketch(), True) == ([], False)
    sketch = sketch_of([3])
    sketch.merge(QuantileSketch())
    assert (sketch.rows, sketch.mean) == (1, 3)


def test_a_sketch_of_a_million_numbers_is_small():
    sketch = QuantileSketch()
    for value in 10 ** RNG.uniform(-6, 14, 200_000):
        sketch.add(value)
    assert len(sketch.bins) <= 37_000
    assert len(pickle.dumps(sketch)) < 400_000


@pytest.mark.parametrize("name", ["lengths", "seconds", "shares", "sizes"])
@pytest.mark.parametrize("may_be_log", [False, True])
def test_bars_count_each_number_where_it_lies(name, may_be_log):
    values = SAMPLES[name]
    sketch = sketch_of(values)
    edges, is_log = bar_edges(sketch, may_be_log)
    assert edges == sorted(set(edges))
    assert edges[0] <= values.min() and edges[-1] >= values.max()
    assert 2 <= len(edges) - 1 <= 1.5 * MAX_BARS
    assert not is_log or may_be_log
    counted, expected = sketch.counts(edges), np.histogram(values, edges)[0]
    assert sum(counted) == len(values)
    # An edge is right to 0.1 %, so that a few numbers change sides.
    assert np.abs(np.subtract(counted, expected)).max() <= 0.005 * len(values)


def test_a_size_that_is_an_edge_begins_its_bar():
    sizes = sketch_of(SAMPLES["sizes"])
    edges = [0.0, 224.0, 300.0, 512.0, 4000.0, 4001.0]
    assert sizes.counts(edges) == [0, 30, 40, 20, 10]


def test_the_scale_is_log_where_numbers_differ_widely_and_may_be():
    assert bar_edges(sketch_of([1, 1000]), True)[1]
    assert not bar_edges(sketch_of([1, 1000]), False)[1]
    assert not bar_edges(sketch_of([100, 1000]), True)[1]
    assert not bar_edges(sketch_of([0, 1000]), True)[1]


def test_edges_are_round_and_whole_for_whole_numbers():
    assert bar_edges(sketch_of([28, 31]), True)[0] == [28, 29, 30, 31, 32]
    edges, _ = bar_edges(sketch_of([0.0, 1.0, 0.3]), False)
    assert edges == pytest.approx(np.linspace(0, 1, 21))
    edges, _ = bar_edges(sketch_of([1, 90]), True)
    assert edges == [1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100]
    assert bar_edges(sketch_of([1, 100]), True)[0][-2:] == [100, 150]


def test_bars_are_not_finer_than_the_sketch():
    values = np.linspace(99_000.5, 100_999.5, 5000)
    counts = sketch_of(values).counts(bar_edges(sketch_of(values), True)[0])
    assert min(counts) > 0.5 * max(counts)  # no comb


def test_equal_numbers_have_one_bar():
    sketch = sketch_of([300, 300])
    assert bar_edges(sketch, True) == ([300, 300], False)
    assert sketch.counts([300, 300]) == [2]


@given(NUMBERS, st.booleans())
def test_every_number_is_in_one_bar(values, may_be_log):
    sketch = sketch_of(values)
    edges, _ = bar_edges(sketch, may_be_log)
    assert all(math.isfinite(edge) for edge in edges)
    assert sum(sketch.counts(edges)) == len(values) if edges else not values
