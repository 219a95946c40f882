"""Merging of several requests' arrays into one batch, and splitting of its outputs.

Source: TensorFlow Serving 2.16.1 (batching_session.cc, batching_util.cc), for the
requests that share a batch, the padding and the texts of errors.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from serving.server.configs import Batching
from serving.server.errors import failed_precondition, invalid_argument


def count_rows(feeds: Mapping[str, np.ndarray]) -> int:
    """Returns the size of the arrays' first dimension.

    Raises:
        ServingError: The sizes differ, or an array has no dimension.
    """
    if not feeds:
        raise invalid_argument(
            "Batching session Run() must have at least one input tensor"
        )
    if not all(a.ndim for a in feeds.values()):
        raise invalid_argument(
            "Batching session Run() input tensors must have at least one dimension"
        )
    rows = {len(a) for a in feeds.values()}
    if len(rows) > 1:
        raise invalid_argument(
            "Batching session Run() input tensors must have equal 0th-dimension size"
        )
    return rows.pop()


def merge(
    requests: Sequence[Mapping[str, np.ndarray]], options: Batching
) -> dict[str, np.ndarray]:
    """Concatenates the rows of all requests and pads them to an allowed batch size.

    Raises:
        ServingError: FAILED_PRECONDITION: types, or shapes per row, differ.
    """
    rows = sum(map(count_rows, requests))
    larger = (size for size in options.allowed_batch_sizes if size >= rows > 0)
    padding = next(larger, rows) - rows
    feeds = {}
    for name in requests[0]:
        arrays = [request[name] for request in requests]
        if options.pad_variable_length_inputs:
            arrays = _pad(arrays)
        _check_same_shape(name, arrays)
        filling = next((a[:1] for a in reversed(arrays) if len(a)), None)
        arrays = arrays + [filling] * padding
        feeds[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return feeds


def split(
    outputs: Sequence[np.ndarray],
    requests: Sequence[Mapping[str, np.ndarray]],
    batch_rows: int,
) -> list[list[np.ndarray]]:
    """Returns the outputs of each request.

    Args:
        outputs: Outputs of the batch.
        requests: The merged requests.
        batch_rows: Rows of the batch, with padding.

    Raises:
        ServingError: FAILED_PRECONDITION: an output has another number of rows.
    """
    for array in outputs:
        _check_rows(array, batch_rows)
    ends = [*accumulate(map(count_rows, requests), initial=0)]
    return [[array[i:j] for array in outputs] for i, j in pairwise(ends)]


def _pad(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Pads the row shapes to the largest, with each array's first element."""
    if len({a.ndim for a in arrays}) > 1:
        return arrays
    longest = np.max([a.shape for a in arrays], axis=0)
    padded = []
    for array in arrays:
        missing = longest - array.shape
        missing[0] = 0  # rows
        if array.size:
            array = np.pad(
                array, [(0, n) for n in missing], constant_values=array.flat[0]
            )
        padded.append(array)
    return padded


def _check_same_shape(name: str, arrays: list[np.ndarray]) -> None:
    if len({(a.dtype, a.shape[1:]) for a in arrays}) > 1:
        raise failed_precondition(
            f"Tensors with name '{name}' from different tasks have different shapes "
            "and padding is turned off. Set pad_variable_length_inputs to true, or "
            "ensure that all tensors with the same name have equal dimensions starting "
            "with the first dim."
        )


def _check_rows(array: np.ndarray, rows: int) -> None:
    if not array.ndim:
        raise failed_precondition("Batched output tensor has 0 dimensions")
    if len(array) != rows:
        raise failed_precondition(
            "Batched output tensor's 0th dimension does not equal the sum of the 0th "
            "dimension sizes of the input tensors"
        )
