import numpy as np
import pytest

from serving.server.configs import Batching
from serving.server.engine.batch_merge import merge, rows_of, split
from serving.server.errors import ServingError


def request(*rows, dtype="f4"):
    return {"x": np.array(rows, dtype)}


def test_rows_stand_one_request_after_another():
    found = merge([request(1, 2), request(3)], Batching())
    assert found["x"].tolist() == [1, 2, 3]


def test_a_batch_is_filled_up_to_the_next_allowed_size():
    options = Batching(max_batch_size=8, allowed_batch_sizes=(4, 8))
    found = merge([request(1, 2), request(3)], options)
    assert found["x"].tolist() == [1, 2, 3, 3]
    assert len(merge([request(*range(5))], options)["x"]) == 8
    assert len(merge([request()], options)["x"]) == 0


def test_inputs_of_several_lengths_are_padded_with_their_first_element():
    options = Batching(pad_variable_length_inputs=True)
    found = merge([request([1, 2]), request([3, 4, 5])], options)
    assert found["x"].tolist() == [[1, 2, 1], [3, 4, 5]]


@pytest.mark.parametrize(
    "other", [request([1, 2, 3]), request(1), request([1, 2], dtype="i4")]
)
def test_what_differs_in_more_than_rows_is_no_batch(other):
    with pytest.raises(ServingError, match="have different shapes and padding is"):
        merge([request([1, 2]), other], Batching())


def test_each_request_gets_its_own_rows_back():
    requests = [request(1, 2), request(), request(3)]
    answers = [np.array([10, 20, 30, 99]), np.array([b"a", b"b", b"c", b"-"], object)]
    first, none, last = split(answers, requests, 4)
    assert [a.tolist() for a in first] == [[10, 20], [b"a", b"b"]]
    assert [a.tolist() for a in none] == [[], []]
    assert [a.tolist() for a in last] == [[30], [b"c"]]


@pytest.mark.parametrize("answer", [np.array(5), np.ones(2)])
def test_an_answer_without_a_row_each_is_refused(answer):
    with pytest.raises(ServingError, match="^Batched output tensor"):
        split([answer], [request(1), request(2), request(3)], 3)


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({}, "must have at least one input tensor"),
        ({"x": np.array(1)}, "must have at least one dimension"),
        ({"x": np.ones(2), "y": np.ones(3)}, "must have equal 0th-dimension size"),
    ],
)
def test_what_has_no_rows_is_refused(feeds, text):
    with pytest.raises(ServingError, match=text):
        rows_of(feeds)
