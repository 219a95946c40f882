import threading
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.export.saved_model_session import Session
from serving.server.configs import Batching
from serving.server.deadline import Deadline
from serving.server.engine import servable as servable_py
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.batching import BatchScheduler
from serving.server.engine.servable import Servable
from serving.server.errors import ServingError


def tensors(servable, signature):
    """Names of the tensors of a signature: inputs and outputs by their keys."""
    definition = servable.signatures[signature]
    return (
        {key: info.name for key, info in definition.inputs.items()},
        {key: info.name for key, info in definition.outputs.items()},
    )


def run(servable, signature, array, *outputs, deadline=None):
    starts, ends = tensors(servable, signature)
    feeds = {name: np.asarray(array) for name in starts.values()}
    fetches = [ends[key] for key in outputs]
    return servable.run(feeds, fetches, deadline or Deadline(30), "Predict")


def test_it_answers_in_the_order_that_is_asked_for(servable):
    text = np.array([b"abc", b""], object)
    one, two = run(servable, "echo", text, "length", "s_bytes")
    assert one.tolist() == [3, 0] and two.tolist() == [b"abc", b""]
    one, two = run(servable, "echo", text, "s_bytes", "length")
    assert one.tolist() == [b"abc", b""] and two.tolist() == [3, 0]


def test_tensorflow_refuses_a_wrong_type_in_its_own_words(servable):
    with pytest.raises(ServingError) as caught:
        run(servable, "serving_default", np.ones(3), "y")
    assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.message == "Expects arg[0] to be float but double is provided"


def test_numbers_of_another_rank_do_not_reach_operations_that_may_abort(servable):
    with pytest.raises(ServingError, match=r"\[3\] is not compatible with expected sh"):
        run(servable, "dense", np.ones(3, np.float32), "y")
    (answer,) = run(servable, "dense", np.ones((2, 3), np.float32), "y")
    assert answer.tolist() == [[0.5, 0.5]] * 2


def test_more_rows_than_may_run_at_once_are_refused(servable):
    with pytest.raises(ServingError, match="has 101 rows, and the limit is 100"):
        run(servable, "serving_default", np.ones(101, np.float32), "y")


def test_what_is_no_model_is_an_error_with_tensorflows_code(tmp_path):
    with pytest.raises(ServingError) as caught:
        Servable("m", 1, tmp_path, room=WeightedSemaphore(1, "rows"))
    assert caught.value.code is grpc.StatusCode.NOT_FOUND
    assert "Could not find SavedModel" in caught.value.message


def test_what_was_called_and_how_long_it_took_is_observed(halves):
    seen = []
    servable = Servable(
        "m",
        1,
        halves / "1",
        room=WeightedSemaphore(9, "rows"),
        observe=lambda api, us: seen.append((api, us)),
    )
    run(servable, "serving_default", np.ones(1, np.float32), "y")
    servable.close()
    ((api, us),) = seen
    assert api == "Predict" and us > 0


@pytest.fixture
def batched(halves):
    waits = []
    scheduler = BatchScheduler(
        Batching(max_batch_size=8, batch_timeout_micros=10**9, num_batch_threads=1),
        waits.append,
    )
    servable = Servable(
        "m", 1, halves / "1", room=WeightedSemaphore(100, "rows"), scheduler=scheduler
    )
    yield servable, waits
    scheduler.close()
    servable.close()


def test_two_requests_of_four_rows_make_a_batch_of_eight(batched):
    servable, waits = batched
    answers = []

    def ask(value):
        array = np.full(4, value, np.float32)
        answers.append(run(servable, "serving_default", array, "y")[0].tolist())

    threads = [threading.Thread(target=ask, args=(value,)) for value in (2, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [[3.0] * 4, [4.0] * 4]
    assert len(waits) == 2


def test_a_part_of_the_outputs_passes_by_the_batches(batched):
    servable, waits = batched
    (answer,) = run(servable, "echo", np.array([b"ab"], object), "length")
    assert answer.tolist() == [2] and not waits


def test_a_model_that_is_not_understood_is_closed(halves, monkeypatch):
    closed = []
    close = Session.close
    monkeypatch.setattr(Session, "close", lambda s: closed.append(close(s)))
    monkeypatch.setattr(servable_py, "Ranks", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Servable("m", 1, halves / "1", room=WeightedSemaphore(1, "rows"))
    assert closed == [None]


def test_rows_that_a_signature_fixes_are_not_counted(tmp_path):
    class Table(tf.Module):
        @tf.function(
            input_signature=[
                tf.TensorSpec([200], tf.float32, name="table"),
                tf.TensorSpec([None], tf.int32, name="at"),
            ]
        )
        def look_up(self, table, at):
            return {"y": tf.gather(table, at)}

    table = Table()
    tf.saved_model.save(table, str(tmp_path), {"look_up": table.look_up})
    servable = Servable("m", 1, tmp_path, room=WeightedSemaphore(9, "rows"))
    starts, ends = tensors(servable, "look_up")

    def look_up(size, count):
        feeds = {
            starts["table"]: np.arange(size, dtype=np.float32),
            starts["at"]: np.arange(count, dtype=np.int32),
        }
        return servable.run(feeds, [ends["y"]], Deadline(30), "Predict")[0]

    assert look_up(200, 9).tolist() == [*range(9)]
    for size, count in ((200, 10), (201, 1)):
        with pytest.raises(ServingError, match="rows, and the limit is 9"):
            look_up(size, count)
    servable.close()


def test_the_wait_for_room_is_no_time_of_tensorflow(halves, monkeypatch):
    now_s, seen = [0.0], []

    class SlowRoom(WeightedSemaphore):
        def taken(self, units, deadline):
            now_s[0] += 100
            return super().taken(units, deadline)

    clock = SimpleNamespace(perf_counter=lambda: now_s[0])
    monkeypatch.setattr(servable_py, "time", clock)
    servable = Servable(
        "m",
        1,
        halves / "1",
        room=SlowRoom(9, "rows"),
        observe=lambda api, us: seen.append(us),
    )
    run(servable, "serving_default", np.ones(1, np.float32), "y")
    servable.close()
    assert seen == [0.0]
