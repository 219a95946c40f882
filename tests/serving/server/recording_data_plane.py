"""Data plane that records requests, and can delay them or let them fail."""

import threading

from serving.server.engine.admission import WeightedSemaphore
from serving.server.metrics import Metrics
from tests.serving.server.assertions import WAIT_S


class RecordingDataPlane:
    """Passes requests on to another data plane; has its own metrics and semaphore.

    Attributes:
        gate: Event that requests wait for; set at first.
        error: Error of the next requests, or None.
        deadlines: Deadlines of the requests.
        requests: Received requests.
    """

    def __init__(self, data_plane):
        self._data_plane = data_plane
        self.metrics, self.bytes = Metrics(), WeightedSemaphore(2**23, "bytes")
        self.gate, self.error = threading.Event(), None
        self.gate.set()
        self.deadlines, self.requests = [], []

    def __getattr__(self, name):
        def call(request, *deadline):
            self.requests.append(request)
            self.deadlines.extend(deadline)
            assert self.gate.wait(WAIT_S)
            if self.error:
                raise self.error
            return getattr(self._data_plane, name)(request, *deadline)

        return call
