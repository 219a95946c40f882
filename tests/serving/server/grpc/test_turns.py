import time
from concurrent.futures import ThreadPoolExecutor

import grpc

from serving.server.deadline import Deadline
from serving.server.grpc.turns import Turns
from tests.serving.server.assertions import WAIT_S, serving_error, wait_until


def test_the_newest_is_first_and_the_oldest_is_refused_if_many_wait():
    turns, order, started = Turns(max_waiting=2), [], []

    def take(name, deadline=None):
        started.append(name)
        with turns.take(deadline or Deadline()):
            order.append(name)

    with ThreadPoolExecutor(3) as pool:
        with turns.take(Deadline()):
            error = serving_error(take, "late", Deadline(0.01))
            assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
            calls = []
            for name in ("oldest", "middle", "newest"):
                calls.append(pool.submit(take, name))
                wait_until(lambda name=name: name in started)
                time.sleep(0.02)  # it waits
            error = serving_error(calls[0].result, WAIT_S)
            assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert [call.result(WAIT_S) for call in calls[1:]] == [None, None]
    assert order == ["newest", "middle"]
    take("again")
