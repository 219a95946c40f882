"""One loaded version of a model: a session, run alone or in batches."""

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
from serving.server.errors import from_tensorflow_error


class Servable:
    """A version that answers; from any thread.

    Attributes:
        name: Of the model.
        version: Number of its folder.
        signatures: {name: SignatureDef}.
    """

    def __init__(
        self,
        name: str,
        version: int,
        path: str,
        *,
        room: WeightedSemaphore,
        scheduler: BatchScheduler | None = None,
        observe: Callable[[str, float], None] = lambda api, us: None,
    ):
        """Loads the SavedModel at `path` by the C++ loader that TF Serving has.

        Args:
            name: Of the model.
            version: Number of its folder.
            path: The folder.
            room: Rows that may run at once, where a signature leaves their number open.
            scheduler: Makes batches; None: each request runs alone.
            observe: Takes what was called, as "Predict", and the microseconds that
                TensorFlow took for it; with batches, those in the queue too, as TF
                Serving has it.

        Raises:
            ServingError: With the code and text of TensorFlow.
        """
        self.name, self.version = name, version
        self._room, self._scheduler, self._observe = room, scheduler, observe
        try:
            self._session = Session(path)
        except tf.errors.OpError as error:
            raise from_tensorflow_error(error) from None
        self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = dict(
            self._session.signatures
        )
        try:
            self._batched = {_kind(s) for s in self.signatures.values()}
            self._sizes = _sizes(self.signatures)
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
            fetches: Tensors.
            deadline: Until when the answer is wanted.
            api: What was called, as "Predict".

        Raises:
            ServingError: With the code and text of TensorFlow Serving.
        """
        self._ranks.check(feeds)
        names = tuple(sorted(set(fetches)))
        kind = (frozenset(feeds), frozenset(names))
        if self._scheduler and kind in self._batched:
            run = partial(self._run, names)
            with self._clocked(api):
                answers = self._scheduler.run((self, kind), run, feeds, deadline)
        else:
            answers = self._run_alone(names, feeds, deadline, api)
        by_name = dict(zip(names, answers, strict=True))
        return [by_name[name] for name in fetches]

    def check_rows(self, rows: int, starts: Iterable[str], ends: Iterable[str]) -> None:
        """Refuses more rows than may run at once, before anything is made of them.

        Args:
            rows: Their number.
            starts: Tensors to run from.
            ends: Tensors to run to.

        Raises:
            ServingError: INVALID_ARGUMENT.
        """
        if self._scheduler and (frozenset(starts), frozenset(ends)) in self._batched:
            self._scheduler.check_size(rows)
        else:
            for start in starts:
                self._room.check(self._counted(start, rows))

    def close(self) -> None:
        """Gives the memory back; nothing runs any more, and nothing will."""
        if self._scheduler:
            for kind in self._batched:
                self._scheduler.forget((self, kind))
        self._session.close()

    def _run_alone(self, names, feeds, deadline: Deadline, api) -> list[np.ndarray]:
        counts = (self._counted(key, len(a)) for key, a in feeds.items() if a.ndim)
        with self._room.taken(max(counts, default=1), deadline), self._clocked(api):
            left_s = deadline.remaining_s()
            timeout_ms = 0 if left_s is None else max(1, round(1000 * left_s))
            return self._run(names, feeds, timeout_ms)

    def _counted(self, tensor: str, rows: int) -> int:
        """Rows that are the request's: where a signature has a size, they are not."""
        return 1 if rows <= self._sizes.get(tensor, 0) else rows

    @contextmanager
    def _clocked(self, api: str) -> Iterator[None]:
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


def _kind(signature) -> tuple[frozenset[str], frozenset[str]]:
    """What a batch may hold: runs from and to the same tensors."""
    return (
        frozenset(info.name for info in signature.inputs.values()),
        frozenset(info.name for info in signature.outputs.values()),
    )


def _sizes(signatures) -> dict[str, int]:
    """First dimensions of inputs, of those that have a known one."""
    found = {}
    for signature in signatures.values():
        for info in signature.inputs.values():
            dims = info.tensor_shape.dim
            if dims and dims[0].size >= 0:
                found[info.name] = dims[0].size
    return found
