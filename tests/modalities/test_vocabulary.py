import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkeras.modalities.preprocessing_state import count_rows as count
from mmkeras.modalities.vocabulary import choose_vocabulary as choose


def test_the_tokens_of_most_rows_come_first():
    rows = [[b"cow", b"cow", b"cow"], [b"moo", b"dog"], [b"dog"]]
    vocabulary, idf = choose(*count(rows), size=2, min_rows=1)
    assert vocabulary == ("dog", "cow")
    assert idf == pytest.approx([np.log(4 / 3) + 1, np.log(4 / 2) + 1])


@pytest.mark.parametrize(
    ("rows", "min_rows", "vocabulary"),
    [
        ([[b"rare", b"rare", b"common"], [b"common"]], 2, ("common",)),
        ([[b"rare"]], 2, ("",)),  # a vector has at least one number
        ([], 1, ("",)),
    ],
)
def test_tokens_of_too_few_rows_are_left_out(rows, min_rows, vocabulary):
    result = choose(*count(rows), size=9, min_rows=min_rows)
    assert result == (vocabulary, (1.0,))


WORDS = st.sampled_from([b"a", b"b", b"c", b"d", "é".encode()])


@given(st.lists(st.lists(WORDS, max_size=4), max_size=8), st.randoms())
def test_the_order_of_rows_and_tokens_does_not_matter(rows, random):
    shuffled = [random.sample(row, len(row)) for row in rows]
    random.shuffle(shuffled)
    first, second = (choose(*count(r), 3, 1) for r in (rows, shuffled))
    assert first == second
