"""Merging of several requests' arrays into one batch, and splitting of its outputs.

Source: TensorFlow Serving 2.16.1 (batching_session.cc, batching_util.cc), for the
requests that share a batch, the padding and the texts of errors.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from serving.server.configs import Batching
from serving.server.errors import failed_precondition, invalid_argument

Feeds = Mapping[str, np.ndarray]


def count_rows(feeds: Feeds) -> int:
    """Returns the size of the arrays' first dimension, which all must share."""
    sizes = {array.shape[:1] for array in feeds.values()}
    if not sizes:
        problem = "must have at least one input tensor"
    elif () in sizes:
        problem = "input tensors must have at least one dimension"
    elif len(sizes) > 1:
        problem = "input tensors must have equal 0th-dimension size"
    else:
        return sizes.pop()[0]
    raise invalid_argument(f"Batching session Run() {problem}")


def merge(requests: Sequence[Feeds], options: Batching) -> dict[str, np.ndarray]:
    """Concatenates the rows of all requests and pads them to an allowed batch size."""
    rows = sum(map(count_rows, requests))
    larger = (size for size in options.allowed_batch_sizes if size >= rows > 0)
    padding = next(larger, rows) - rows
    feeds = {}
    for name in requests[0]:
        arrays = [request[name] for request in requests]
        if options.pad_variable_length_inputs and len({a.ndim for a in arrays}) == 1:
            arrays = _pad(arrays)
        if len({(a.dtype, a.shape[1:]) for a in arrays}) > 1:
            raise failed_precondition(
                f"Tensors with name '{name}' from different tasks have different "
                "shapes and padding is turned off. Set pad_variable_length_inputs to "
                "true, or ensure that all tensors with the same name have equal "
                "dimensions starting with the first dim."
            )
        filling = next((a[:1] for a in reversed(arrays) if len(a)), None)
        arrays += [filling] * padding
        feeds[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return feeds


def split(
    outputs: Sequence[np.ndarray], requests: Sequence[Feeds], batch_rows: int
) -> list[list[np.ndarray]]:
    """Returns the outputs of each request; `batch_rows` counts the padding too."""
    for array in outputs:
        if not array.ndim:
            raise failed_precondition("Batched output tensor has 0 dimensions")
        if len(array) != batch_rows:
            raise failed_precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the "
                "0th dimension sizes of the input tensors"
            )
    ends = accumulate(map(count_rows, requests), initial=0)
    return [[array[i:j] for array in outputs] for i, j in pairwise(ends)]


def _pad(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Pads the shapes per row to the largest, with each array's first element."""
    longest = np.max([array.shape[1:] for array in arrays], axis=0)
    return [
        np.pad(
            array,
            [(0, 0), *((0, n) for n in longest - array.shape[1:])],
            constant_values=array.flat[0],
        )
        if array.size
        else array
        for array in arrays
    ]
