import numpy as np
import pytest

from serving.server.configs import Batching
from serving.server.engine.batch_merge import count_rows, merge, split
from serving.server.errors import ServingError


def request(*rows, dtype="f4"):
    return {"x": np.array(rows, dtype)}


def test_rows_are_in_the_order_of_the_requests():
    assert merge([request(1, 2), request(3)], Batching())["x"].tolist() == [1, 2, 3]


def test_a_batch_is_padded_to_the_next_allowed_size():
    options = Batching(max_batch_size=8, allowed_batch_sizes=(4, 8))
    batch = merge([request(1, 2), request(3)], options)
    assert batch["x"].tolist() == [1, 2, 3, 3]
    assert len(merge([request(*range(5))], options)["x"]) == 8
    assert len(merge([request()], options)["x"]) == 0


def test_inputs_of_several_lengths_are_padded_with_their_first_element():
    options = Batching(pad_variable_length_inputs=True)
    batch = merge([request([1, 2]), request([3, 4, 5])], options)
    assert batch["x"].tolist() == [[1, 2, 1], [3, 4, 5]]


@pytest.mark.parametrize(
    "other", [request([1, 2, 3]), request(1), request([1, 2], dtype="i4")]
)
def test_other_shapes_or_types_cannot_be_merged(other):
    with pytest.raises(ServingError, match="have different shapes"):
        merge([request([1, 2]), other], Batching())


def test_each_request_gets_its_own_rows():
    requests = [request(1, 2), request(), request(3)]
    outputs = [np.array([10, 20, 30, 99]), np.array([b"a", b"b", b"c", b"-"], object)]
    parts = split(outputs, requests, 4)
    assert [[array.tolist() for array in part] for part in parts] == [
        [[10, 20], [b"a", b"b"]],
        [[], []],
        [[30], [b"c"]],
    ]


@pytest.mark.parametrize("output", [np.array(5), np.ones(2)])
def test_an_output_with_another_number_of_rows_is_refused(output):
    with pytest.raises(ServingError, match="^Batched output tensor"):
        split([output], [request(1), request(2), request(3)], 3)


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({}, "at least one input tensor"),
        ({"x": np.array(1)}, "at least one dimension"),
        ({"x": np.ones(2), "y": np.ones(3)}, "equal 0th-dimension size"),
    ],
)
def test_inputs_without_rows_are_refused(feeds, text):
    with pytest.raises(ServingError, match=text):
        count_rows(feeds)
