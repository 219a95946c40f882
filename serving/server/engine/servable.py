"""Loaded model version that runs requests separately or in batches."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from mmkeras.export.saved_model_session import Session
from serving.server.deadline import Deadline
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.batching import BatchScheduler
from serving.server.engine.rank_guard import RankGuard
from serving.server.errors import from_tensorflow_error, unimplemented

# Operations of tf.py_function, tf.numpy_function and tf.compat.v1.py_func.
_PYTHON_OPERATIONS = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}


class Servable:
    """Loaded model version; thread-safe.

    Attributes:
        signatures: {name: SignatureDef}.
    """

    def __init__(
        self,
        name: str,
        version: int,
        path: str,
        *,
        semaphore: WeightedSemaphore,
        scheduler: BatchScheduler | None = None,
        observe: Callable[[str, float], None] = lambda api, us: None,
    ):
        """Loads the SavedModel at `path` with TF Serving's C++ loader.

        Args:
            name: Model name.
            version: Version number.
            path: Folder of the version.
            semaphore: Limit of rows that run at once without batching, for inputs
                whose first dimension is variable.
            scheduler: Scheduler of batches; None: no batching.
            observe: Receives the API, as "Predict", and the microseconds that
                TensorFlow took; with batching, the queue's time too, as in TF Serving.

        Raises:
            ServingError: With the code and text of TensorFlow; UNIMPLEMENTED if a
                signature calls Python.
        """
        self.name, self.version = name, version
        self._semaphore, self._scheduler, self._observe = semaphore, scheduler, observe
        try:
            self._session = Session(path)
        except tf.errors.OpError as error:
            raise from_tensorflow_error(error) from None
        self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = dict(
            self._session.signatures
        )
        try:
            _check_operations(self._session.operations)
            self._batched = {_tensor_names(s) for s in self.signatures.values()}
            self._fixed_sizes = _fixed_sizes(self.signatures)
            self._ranks = RankGuard(self.signatures, self._session.operations)
        except BaseException:
            self._session.close()
            raise

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        deadline: Deadline,
        api: str,
    ) -> list[np.ndarray]:
        """Runs the graph from the tensors of `feeds` to those of `fetches`.

        Args:
            feeds: {tensor: array}.
            fetches: Output tensors.
            deadline: Deadline of the request.
            api: Called API, as "Predict".

        Raises:
            ServingError: With the code and text of TensorFlow Serving.
        """
        self._ranks.check(feeds)
        names = tuple(sorted(set(fetches)))
        kind = (frozenset(feeds), frozenset(names))
        if self._scheduler and kind in self._batched:
            run = partial(self._run, names)
            with self._timed(api):
                arrays = self._scheduler.run((self, kind), run, feeds, deadline)
        else:
            arrays = self._run_alone(names, feeds, deadline, api)
        by_name = dict(zip(names, arrays, strict=True))
        return [by_name[name] for name in fetches]

    def check_rows(
        self, rows: int, input_tensors: Iterable[str], output_tensors: Iterable[str]
    ) -> None:
        """Raises ServingError (INVALID_ARGUMENT) for more rows than may run at once."""
        if (
            self._scheduler
            and (frozenset(input_tensors), frozenset(output_tensors)) in self._batched
        ):
            self._scheduler.check_size(rows)
        else:
            for tensor in input_tensors:
                self._semaphore.check(self._count_own_rows(tensor, rows))

    def close(self) -> None:
        """Frees the memory; no request may run or follow."""
        if self._scheduler:
            for kind in self._batched:
                self._scheduler.remove_queue((self, kind))
        self._session.close()

    def _run_alone(self, names, feeds, deadline: Deadline, api) -> list[np.ndarray]:
        counts = (
            self._count_own_rows(key, len(a)) for key, a in feeds.items() if a.ndim
        )
        with (
            self._semaphore.acquire(max(counts, default=1), deadline),
            self._timed(api),
        ):
            left_s = deadline.remaining_s()
            timeout_ms = 0 if left_s is None else max(1, round(1000 * left_s))
            return self._run(names, feeds, timeout_ms)

    def _count_own_rows(self, tensor: str, rows: int) -> int:
        """Returns the rows that the request chose: 1 where the signature fixes them."""
        return 1 if rows <= self._fixed_sizes.get(tensor, 0) else rows

    @contextmanager
    def _timed(self, api: str) -> Iterator[None]:
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self._observe(api, 1e6 * (time.perf_counter() - start_s))

    def _run(self, names, feeds, timeout_ms: int) -> list[np.ndarray]:
        try:
            return self._session.run(feeds, names, timeout_ms)
        except tf.errors.OpError as error:
            raise from_tensorflow_error(error) from None


def _check_operations(operations: Mapping[str, Iterable[str]]) -> None:
    """Raises ServingError for a signature with a function of another process."""
    for name, types in operations.items():
        if calls := sorted(_PYTHON_OPERATIONS.intersection(types)):
            raise unimplemented(
                f"Signature '{name}' calls Python ({', '.join(calls)}), which a server "
                "cannot run: the function is not in the SavedModel. Export the model "
                "with TensorFlow operations only."
            )


def _tensor_names(signature) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the tensors of inputs and outputs, the key of a batch."""
    return (
        frozenset(info.name for info in signature.inputs.values()),
        frozenset(info.name for info in signature.outputs.values()),
    )


def _fixed_sizes(signatures) -> dict[str, int]:
    """Returns {input tensor: first dimension} of the inputs with a fixed one."""
    first_dims = {}
    for signature in signatures.values():
        for info in signature.inputs.values():
            dims = info.tensor_shape.dim
            if dims and dims[0].size >= 0:
                first_dims[info.name] = dims[0].size
    return first_dims
