"""Loaded model version that runs requests separately or in batches."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import tensorflow as tf

from mmkeras.export.saved_model_session import Session
from serving.server.deadline import Deadline
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.batch_merge import Feeds
from serving.server.engine.batching import BatchScheduler, timeout_ms
from serving.server.engine.rank_guard import RankGuard
from serving.server.errors import from_tensorflow_error, unimplemented

# Operations of tf.py_function, tf.numpy_function and tf.compat.v1.py_func.
_PYTHON_OPERATIONS = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}


class Servable:
    """Loaded model version; thread-safe."""

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

        `semaphore` limits the rows that run at once without a scheduler of batches, for
        inputs whose first dimension is variable. `observe` receives the API, as
        "Predict", and the microseconds that TensorFlow took; with batching, the queue's
        time too, as in TF Serving.
        """
        self.name, self.version = name, version
        self._semaphore, self._scheduler, self._observe = semaphore, scheduler, observe
        try:
            self._session = Session(path)
        except tf.errors.OpError as error:
            raise from_tensorflow_error(error) from None
        self.signatures = dict(self._session.signatures)
        try:
            _check_operations(self._session.operations)
            self._ranks = RankGuard(self._session)
        except BaseException:
            self._session.close()
            raise
        self._batched = set()  # tensors of inputs and outputs
        self._fixed_sizes: dict[str, int] = {}  # first dimensions of inputs
        for signature in self.signatures.values():
            sides = signature.inputs.values(), signature.outputs.values()
            self._batched.add(tuple(frozenset(i.name for i in side) for side in sides))
            for info in signature.inputs.values():
                if (dims := info.tensor_shape.dim) and dims[0].size >= 0:
                    self._fixed_sizes[info.name] = dims[0].size

    def run(
        self, feeds: Feeds, fetches: Sequence[str], deadline: Deadline, api: str
    ) -> list[np.ndarray]:
        """Runs the graph from the tensors of `feeds` to those of `fetches`."""
        self._ranks.check(feeds)
        names = sorted(set(fetches))
        kind, run = (frozenset(feeds), frozenset(names)), partial(self._run, names)
        if self._scheduler and kind in self._batched:
            with self._timed(api):
                arrays = self._scheduler.run((self, kind), run, feeds, deadline)
        else:
            rows = [self._own_rows(t, len(a)) for t, a in feeds.items() if a.ndim]
            units = max(rows, default=1)
            with self._semaphore.acquire(units, deadline), self._timed(api):
                arrays = run(feeds, timeout_ms([deadline]))
        by_name = dict(zip(names, arrays, strict=True))
        return [by_name[name] for name in fetches]

    def check_rows(
        self, rows: int, input_tensors: Iterable[str], output_tensors: Iterable[str]
    ) -> None:
        """Raises ServingError (INVALID_ARGUMENT) for more rows than may run at once."""
        kind = frozenset(input_tensors), frozenset(output_tensors)
        if self._scheduler and kind in self._batched:
            self._scheduler.check_size(rows)
        else:
            for tensor in input_tensors:
                self._semaphore.check(self._own_rows(tensor, rows))

    def close(self) -> None:
        """Frees the memory; no request may run or follow."""
        self._session.close()

    def _own_rows(self, tensor: str, rows: int) -> int:
        """Returns the rows that the request chose: 1 where the signature fixes them."""
        return 1 if rows <= self._fixed_sizes.get(tensor, 0) else rows

    @contextmanager
    def _timed(self, api: str) -> Iterator[None]:
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self._observe(api, 1e6 * (time.perf_counter() - start_s))

    def _run(self, names, feeds: Feeds, limit_ms: int) -> list[np.ndarray]:
        try:
            return self._session.run(feeds, names, limit_ms)
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
