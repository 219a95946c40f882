import numpy as np
import pytest

from serving.server.configs import Batching
from serving.server.engine.batch_merge import count_rows, merge, split
from tests.serving.server.assertions import serving_error

ALLOWED = {"max_batch_size": 8, "allowed_batch_sizes": (4, 8)}
WIDE = [[3, 4, 5], [6, 7, 8]]
PADDED = {"pad_variable_length_inputs": True}


def request(*rows, dtype="f4"):
    return {"x": np.array(rows, dtype)}


@pytest.mark.parametrize(
    ("options", "requests", "batch"),
    [
        ({}, [request(1, 2), request(3)], [1, 2, 3]),
        (ALLOWED, [request(1, 2), request(3)], [1, 2, 3, 3]),
        (ALLOWED, [request(1, 2, 3, 4, 5)], [1, 2, 3, 4, 5, 1, 1, 1]),
        (ALLOWED, [request()], []),
        (PADDED, [request([1, 2]), request(*WIDE)], [[1, 2, 1], *WIDE]),
    ],
)
def test_a_batch_has_the_rows_of_all_requests_and_padding(options, requests, batch):
    assert merge(requests, Batching(**options))["x"].tolist() == batch


@pytest.mark.parametrize(
    "other", [request([1, 2, 3]), request(1), request([1, 2], dtype="i4")]
)
def test_other_shapes_or_types_cannot_be_merged(other):
    error = serving_error(merge, [request([1, 2]), other], Batching())
    assert "have different shapes" in error.message


def test_each_request_gets_its_own_rows():
    requests = [request(1, 2), request(), request(3)]
    outputs = [np.array([10, 20, 30, 99]), np.array([b"a", b"b", b"c", b"-"], object)]
    parts = split(outputs, requests, 4)
    expected = [[[10, 20], [b"a", b"b"]], [[], []], [[30], [b"c"]]]
    assert [[array.tolist() for array in part] for part in parts] == expected


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ((split, [np.array(5)], [], 3), "Batched output tensor has 0 dimensions"),
        ((split, [np.ones(2)], [], 3), "Batched output tensor's 0th dimension does no"),
        ((count_rows, {}), "at least one input tensor"),
        ((count_rows, {"x": np.array(1)}), "at least one dimension"),
        ((count_rows, {"x": np.ones(2), "y": np.ones(3)}), "equal 0th-dimension size"),
    ],
)
def test_arrays_without_the_same_rows_are_refused(call, text):
    assert text in serving_error(*call).message
