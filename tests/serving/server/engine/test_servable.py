from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.export.saved_model_session import Session
from serving.server.configs import Batching
from serving.server.deadline import Deadline
from serving.server.engine import servable as servable_module
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.batching import BatchScheduler
from serving.server.engine.servable import Servable
from serving.server.errors import ServingError
from tests.serving.server.assertions import WAIT_S, load_servable, serving_error


def tensor_names(servable, signature):
    """Returns the tensors of a signature's inputs and outputs, by their keys."""
    definition = servable.signatures[signature]
    return (
        {key: info.name for key, info in definition.inputs.items()},
        {key: info.name for key, info in definition.outputs.items()},
    )


def run(servable, signature, array, *outputs):
    inputs, names = tensor_names(servable, signature)
    feeds = {name: np.asarray(array) for name in inputs.values()}
    fetches = [names[key] for key in outputs]
    return servable.run(feeds, fetches, Deadline(WAIT_S), "Predict")


def test_outputs_are_in_the_requested_order(servable):
    text = np.array([b"abc", b""], object)
    expected = {"length": [3, 0], "s_bytes": [b"abc", b""]}
    for keys in (("length", "s_bytes"), ("s_bytes", "length")):
        arrays = run(servable, "echo", text, *keys)
        assert [a.tolist() for a in arrays] == [expected[key] for key in keys]


def test_a_wrong_type_is_refused_with_tensorflows_text(servable):
    error = serving_error(run, servable, "serving_default", np.ones(3), "y")
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.message == "Expects arg[0] to be float but double is provided"


def test_a_wrong_rank_does_not_reach_operations_that_may_crash(servable):
    with pytest.raises(ServingError, match=r"\[3\] is not compatible with expected sh"):
        run(servable, "dense", np.ones(3, np.float32), "y")
    (output,) = run(servable, "dense", np.ones((2, 3), np.float32), "y")
    assert output.tolist() == [[0.5, 0.5]] * 2


def test_a_folder_without_a_model_is_an_error_with_tensorflows_code(tmp_path):
    error = serving_error(load_servable, tmp_path)
    assert error.code is grpc.StatusCode.NOT_FOUND
    assert "Could not find SavedModel" in error.message


@pytest.fixture
def batched(halves):
    waits_us = []
    scheduler = BatchScheduler(
        Batching(max_batch_size=8, batch_timeout_micros=10**9, num_batch_threads=1),
        waits_us.append,
    )
    servable = load_servable(halves / "1", scheduler=scheduler)
    yield servable, waits_us
    scheduler.close()
    servable.close()


def test_two_requests_of_four_rows_make_a_batch_of_eight(batched):
    servable, waits_us = batched

    def request(value):
        array = np.full(4, value, np.float32)
        return run(servable, "serving_default", array, "y")[0].tolist()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(request, (2, 4))) == [[3.0] * 4, [4.0] * 4]
    assert len(waits_us) == 2


def test_a_subset_of_the_outputs_is_not_batched(batched):
    servable, waits_us = batched
    (output,) = run(servable, "echo", np.array([b"ab"], object), "length")
    assert output.tolist() == [2] and not waits_us


def test_the_session_is_closed_when_the_signatures_cannot_be_read(halves, monkeypatch):
    closed = []
    close = Session.close
    monkeypatch.setattr(Session, "close", lambda s: closed.append(close(s)))
    monkeypatch.setattr(servable_module, "RankGuard", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        load_servable(halves / "1")
    assert closed == [None]


def test_rows_that_a_signature_fixes_are_not_counted(tmp_path):
    module = tf.Module()
    module.look_up = tf.function(
        lambda table, at: {"y": tf.gather(table, at)},
        [tf.TensorSpec([200], name="table"), tf.TensorSpec([None], tf.int32, "at")],
    )
    tf.saved_model.save(module, str(tmp_path), {"look_up": module.look_up})
    servable = load_servable(tmp_path, rows=9)
    inputs, outputs = tensor_names(servable, "look_up")

    def look_up(size, count):
        feeds = {
            inputs["table"]: np.arange(size, dtype=np.float32),
            inputs["at"]: np.arange(count, dtype=np.int32),
        }
        return servable.run(feeds, [outputs["y"]], Deadline(WAIT_S), "Predict")[0]

    assert look_up(200, 9).tolist() == [*range(9)]
    for size, count in ((200, 10), (201, 1)):
        with pytest.raises(ServingError, match="rows, and the limit is 9"):
            look_up(size, count)
    servable.close()


def test_the_time_of_tensorflow_is_observed_without_the_wait(halves, monkeypatch):
    now_s, observed = [0.0], []

    class SlowSemaphore(WeightedSemaphore):
        def acquire(self, units, deadline):
            now_s[0] += 100
            return super().acquire(units, deadline)

    class SlowSession(Session):
        def run(self, *args):
            now_s[0] += 2
            return super().run(*args)

    clock = SimpleNamespace(perf_counter=lambda: now_s[0])
    monkeypatch.setattr(servable_module, "time", clock)
    monkeypatch.setattr(servable_module, "Session", SlowSession)
    settings = {"observe": lambda *call: observed.append(call)}
    slow = SlowSemaphore(9, "rows")
    servable = Servable("m", 1, halves / "1", semaphore=slow, **settings)
    run(servable, "serving_default", np.ones(1, np.float32), "y")
    servable.close()
    assert observed == [("Predict", 2e6)]
