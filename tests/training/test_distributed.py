import signal
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

from mmkeras.errors import UserError
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.training import distributed
from mmkeras.training.cluster import Cluster

# Two workers that train together are in test_cluster.py.
PAIR = Cluster(addresses=("a:1", "b:2"), place=1)
ABORTED = """Graph execution error:

Collective ops is aborted by: Socket closed
Additional GRPC error information from remote target /job:worker/task:0:
"""


@pytest.fixture
def pair(monkeypatch):
    monkeypatch.setattr(distributed, "read_cluster", lambda: PAIR)
    two = SimpleNamespace(num_replicas_in_sync=2)
    monkeypatch.setattr(distributed, "strategy", lambda: two)


def test_without_a_cluster_and_several_gpus_the_strategy_is_the_default():
    assert distributed.strategy() is tf.distribute.get_strategy()
    assert distributed.strategy() is distributed.strategy()


def test_a_process_alone_agrees_with_itself_and_shares_nothing():
    distributed.assert_same_on_all_workers("anything")
    distributed.check_divisible_batch(7)
    model = keras.Sequential([keras.Input((2,)), Dropout(0.5)])
    distributed.enable_replica_sync(model)
    assert model.layers[0].share is None


@pytest.mark.parametrize(("rows", "advice"), [(7, 6), (1, 2)])
def test_a_batch_that_cannot_be_shared_evenly_is_refused(pair, rows, advice):
    distributed.check_divisible_batch(8)
    with pytest.raises(UserError, match=f"{rows} rows .* by 2 devices.*size {advice}"):
        distributed.check_divisible_batch(rows)


# Lost workers -----------------------------------------------------------------


def test_a_lost_worker_is_one_line_that_says_how_to_go_on(pair):
    with pytest.raises(UserError) as error, distributed.translate_worker_errors():
        raise tf.errors.UnavailableError(None, None, ABORTED)
    assert str(error.value) == (
        "Another worker is gone (Socket closed). Start all workers again with the same "
        "command: the run goes on."
    )


@pytest.mark.parametrize(
    "mistake", [ValueError(ABORTED), tf.errors.DataLossError(None, None, "shard")]
)
def test_other_errors_stay_what_they_are(pair, mistake):
    with pytest.raises(type(mistake)), distributed.translate_worker_errors():
        raise mistake


def test_one_process_loses_no_worker():
    error = tf.errors.UnavailableError(None, None, ABORTED)
    with (
        pytest.raises(tf.errors.UnavailableError),
        distributed.translate_worker_errors(),
    ):
        raise error


# Meeting the others -----------------------------------------------------------


def met(monkeypatch, make):
    waited = []
    monkeypatch.setattr(distributed, "meet", lambda *given: waited.append(given))
    name = "MultiWorkerMirroredStrategy"
    monkeypatch.setattr(distributed.tf.distribute, name, make)
    try:
        return distributed._joined(60)
    finally:
        assert waited == [(PAIR, 60)]


def test_signals_end_a_process_while_tensorflow_connects(pair, monkeypatch):
    def make():
        handlers.append(signal.getsignal(signal.SIGINT))
        return "strategy"

    before, handlers = signal.getsignal(signal.SIGINT), []
    assert met(monkeypatch, make) == "strategy"
    assert handlers == [signal.SIG_DFL] and signal.getsignal(signal.SIGINT) == before


def test_a_port_that_is_taken_is_said(pair, monkeypatch):
    def taken():
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server")

    with pytest.raises(
        UserError, match=r"Worker 1 cannot be 'b:2' .*\(Could not start"
    ):
        met(monkeypatch, taken)
