"""CIDEr-D against values calculated by hand, and its properties."""

from math import exp, log, sqrt

import numpy as np
import pytest

from mmkeras.evaluation.cider import measure_cider

# Words of a row occur in no other, except "x", which is in all.
OTHERS = [["x p q r s"], ["x k l m n"]]


def score(references, text, others=OTHERS):
    rows = [references, *others]
    return measure_cider(rows, [text, *[row[0] for row in others]])[0]


def test_a_value_is_the_one_calculated_by_hand():
    """Of 2 rows: "a" is in both (weight 0), all other n-grams are in one: log 2."""
    references = [["a b c", "b b"], ["a d"]]
    value = measure_cider(references, ["b b c", "a d"])
    # Unigrams, in units of log 2: text b 2, c 1; references b 1, c 1, and b 2.
    unigram = [(1 * 1 + 1 * 1) / (sqrt(5) * sqrt(2)), 2 * 2 / (sqrt(5) * 2)]
    # Bigrams: "b b" and "b c"; "a b" and "b c"; "b b".
    bigram = [1 / (sqrt(2) * sqrt(2)), 1 / sqrt(2)]
    # Trigrams: none in common, or none at all. The second reference is 1 word shorter.
    first = (unigram[0] + bigram[0]) / 4
    second = (unigram[1] + bigram[1]) / 4 * exp(-1 / 72)
    assert value[0] == pytest.approx(10 * (first + second) / 2)
    # "a d" has a unigram and a bigram with a weight.
    assert value[1] == pytest.approx(10 * 2 / 4)


def test_a_rarer_word_weighs_more():
    """Idf of 3 rows: "x" log(3/3), "y" log(3/2), "a" log(3)."""
    rows = [["a"], ["x y"], ["x y"]]
    value = measure_cider([["x y a"], *rows[1:]], ["a y x", "x y", "x y"])[0]
    assert value == pytest.approx(10 / 4)  # the same words, no bigram
    y, a = log(3 / 2), log(3)
    common = measure_cider([["x y a"], ["x y"], ["x"]], ["y", "x", "x"])[0]
    rare = measure_cider([["x y a"], ["x y"], ["x"]], ["a", "x", "x"])[0]
    penalty = exp(-4 / 72)
    assert common == pytest.approx(10 / 4 * penalty * y / sqrt(y**2 + a**2))
    assert rare == pytest.approx(10 / 4 * penalty * a / sqrt(y**2 + a**2))


def test_a_text_equal_to_its_references_has_ten_with_four_words():
    assert score(["a b c d e"], "a b c d e") == pytest.approx(10)
    assert score(["a b c d", "a b c d"], "a b c d") == pytest.approx(10)
    assert score(["a b c"], "a b c") == pytest.approx(7.5)
    assert score(["a"], "a") == pytest.approx(2.5)


def test_repetitions_of_a_word_do_not_raise_the_score():
    once = score(["a b c d"], "a b c d")
    repeated = score(["a b c d"], "a b c d a b c d")
    assert repeated < once / 1.3
    assert score(["a b c d"], "a a a a") < score(["a b c d"], "a b e f")


def test_another_length_costs_a_gaussian_of_six_words():
    """The 6 words more have no weight, but they are of another length."""
    value = score(["a"], "a" + 6 * " x", others=[["x x x x x x x"], ["x a x x x x x"]])
    weights = score(["a"], "a", others=[["x x x x x x x"], ["x a x x x x x"]])
    assert 0 < value <= weights * exp(-1 / 2) + 1e-12


def test_the_score_is_the_mean_over_references():
    one, other = score(["a b c d"], "a b c d"), score(["e f g h"], "a b c d")
    assert score(["a b c d", "e f g h"], "a b c d") == pytest.approx((one + other) / 2)


def test_words_of_all_rows_weigh_nothing():
    rows = [["x"], ["x"], ["x x"]]
    np.testing.assert_array_equal(measure_cider(rows, ["x", "x x", "y"])[[0, 2]], 0)


def test_one_row_has_no_rare_words():
    assert measure_cider([["a b c d"]], ["a b c d"]).tolist() == [0]


def test_empty_texts_and_references_have_zero():
    values = measure_cider([["a b"], [""], [""], ["c"]], ["", "a", "", "c"])
    assert values.tolist() == [0, 0, 0, 2.5]
