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
from tests.serving.server.assertions import WAIT_S, load_servable, serving_error

INVALID = grpc.StatusCode.INVALID_ARGUMENT
FLOATS = tf.TensorSpec([None], tf.float32, name="x")


def run(servable, signature, outputs, **arrays):
    definition = servable.signatures[signature]
    feeds = {definition.inputs[key].name: array for key, array in arrays.items()}
    fetches = [definition.outputs[key].name for key in outputs]
    return servable.run(feeds, fetches, Deadline(WAIT_S), "Predict")


def test_outputs_are_in_the_requested_order(servable):
    text = np.array([b"abc", b""], object)
    expected = {"length": [3, 0], "s_bytes": [b"abc", b""]}
    for keys in (("length", "s_bytes"), ("s_bytes", "length")):
        arrays = run(servable, "echo", keys, s=text)
        assert [a.tolist() for a in arrays] == [expected[key] for key in keys]


@pytest.mark.parametrize(
    ("signature", "dtype", "text"),
    [
        ("serving_default", "f8", "Expects arg[0] to be float but double is provided"),
        ("dense", "f4", "[3] is not compatible with expected shape [?,3]."),
    ],
)
def test_a_wrong_type_or_rank_is_refused(servable, signature, dtype, text):
    error = serving_error(run, servable, signature, ["y"], x=np.ones(3, dtype))
    assert error.code is INVALID and error.message.endswith(text)


def test_a_folder_without_a_model_is_an_error_with_tensorflows_code(tmp_path):
    error = serving_error(load_servable, tmp_path, match="Could not find SavedModel")
    assert error.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("call", "operation"),
    [
        (tf.py_function, "EagerPyFunc"),
        (tf.numpy_function, "PyFunc"),
        (lambda *a: tf.compat.v1.py_func(*a, stateful=False), "PyFuncStateless"),
    ],
)
def test_a_model_is_refused_only_if_a_signature_calls_python(tmp_path, call, operation):
    module, inner = tf.Module(), tf.function(lambda x: call(np.sin, [x], tf.float32))
    module.outer = tf.function(
        lambda x: {"y": tf.cond(x[0] > 0, lambda: inner(x), lambda: tf.sin(x))},
        [FLOATS],
    )
    module.sine = tf.function(lambda x: {"y": tf.sin(x)}, [FLOATS])
    tf.saved_model.save(module, f"{tmp_path}/python", {"a": module.outer})
    error = serving_error(load_servable, f"{tmp_path}/python")
    assert error.code is grpc.StatusCode.UNIMPLEMENTED
    assert f"Signature 'a' calls Python ({operation})" in error.message
    tf.saved_model.save(module, f"{tmp_path}/unused", {"a": module.sine})
    load_servable(f"{tmp_path}/unused").close()


def test_requests_of_all_outputs_are_batched(halves):
    waits_us = []
    options = Batching(
        max_batch_size=8, batch_timeout_micros=10**9, num_batch_threads=1
    )
    scheduler = BatchScheduler(options, waits_us.append)
    servable = load_servable(halves / "1", scheduler=scheduler)

    def halve(value):
        array = np.full(4, value, np.float32)
        return run(servable, "serving_default", ["y"], x=array)[0].tolist()

    text = np.array([b"ab"], object)
    assert run(servable, "echo", ["length"], s=text)[0].tolist() == [2]
    assert not waits_us  # a part of the outputs is not batched
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(halve, (2, 4))) == [[3.0] * 4, [4.0] * 4]
    assert len(waits_us) == 2
    scheduler.close()
    servable.close()


def test_the_session_is_closed_when_the_signatures_cannot_be_read(halves, monkeypatch):
    closed, close = [], Session.close
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

    def look_up(size, count):
        table, at = np.arange(size, dtype="f4"), np.arange(count, dtype="i4")
        return run(servable, "look_up", ["y"], table=table, at=at)[0].tolist()

    assert look_up(200, 9) == [*range(9)]
    for size, count in ((200, 10), (201, 1)):
        serving_error(look_up, size, count, match="rows, and the limit is 9")
    servable.close()


def test_the_time_of_tensorflow_is_observed_without_the_wait(halves, monkeypatch):
    now_s, observed = [0.0], []
    for kind, method, step_s in (
        (WeightedSemaphore, "acquire", 100),
        (Session, "run", 2),
    ):
        call = getattr(kind, method)

        def slow(*args, call=call, step_s=step_s):
            now_s[0] += step_s
            return call(*args)

        monkeypatch.setattr(kind, method, slow)
    clock = SimpleNamespace(perf_counter=lambda: now_s[0])
    monkeypatch.setattr(servable_module, "time", clock)
    servable = load_servable(halves / "1", observe=lambda *call: observed.append(call))
    run(servable, "serving_default", ["y"], x=np.ones(1, np.float32))
    servable.close()
    assert observed == [("Predict", 2e6)]
