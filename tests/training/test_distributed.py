import signal
from types import SimpleNamespace

import keras
import pytest
import tensorflow as tf

from mmkeras.errors import LostWorkerError, UserError
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.training import distributed
from mmkeras.training.cluster import Cluster

# Two workers that train together are in test_cluster.py.
PAIR = Cluster(addresses=("a:1", "b:2"), index=1)
ABORTED = """Graph execution error:

Collective ops is aborted by: Socket closed
Additional GRPC error information from remote target /job:worker/task:0:
"""
LOST = tf.errors.UnavailableError(None, None, ABORTED)


@pytest.fixture
def pair(monkeypatch):
    monkeypatch.setattr(distributed, "read_cluster", lambda: PAIR)
    two = SimpleNamespace(num_replicas_in_sync=2)
    monkeypatch.setattr(distributed, "strategy", lambda: two)


def test_without_a_cluster_and_several_gpus_the_strategy_is_the_default():
    assert distributed.strategy() is tf.distribute.get_strategy()
    assert distributed.strategy() is distributed.strategy()


def test_a_single_process_needs_no_comparison_and_no_sharing():
    distributed.assert_same_on_all_workers("anything")
    distributed.check_divisible_batch(7)
    model = keras.Sequential([keras.Input((2,)), Dropout(0.5)])
    distributed.enable_replica_sync(model)
    assert model.layers[0].replica is None


@pytest.mark.parametrize(("rows", "advice"), [(7, 6), (1, 2)])
def test_a_batch_that_cannot_be_shared_evenly_is_refused(pair, rows, advice):
    distributed.check_divisible_batch(8)
    with pytest.raises(UserError, match=f"{rows} rows .* 2 devices.*size {advice}"):
        distributed.check_divisible_batch(rows)


def test_a_lost_worker_is_an_error_of_one_line_with_a_remedy(pair):
    with pytest.raises(LostWorkerError) as error, distributed.translate_worker_errors():
        raise LOST
    message = str(error.value)
    assert "(Socket closed)" in message and "\n" not in message
    assert message.endswith(distributed.RESTART_HINT)


@pytest.mark.parametrize(
    "error", [ValueError(ABORTED), tf.errors.DataLossError(None, None, "shard")]
)
def test_other_errors_and_those_of_a_single_process_are_not_translated(error, request):
    with pytest.raises(type(LOST)), distributed.translate_worker_errors():
        raise LOST
    request.getfixturevalue("pair")
    with pytest.raises(type(error)), distributed.translate_worker_errors():
        raise error


def test_the_fit_of_workers_has_the_epochs_logs_and_stop_of_keras():
    epochs = []

    class Recorder(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs):
            epochs.append(epoch)
            assert self.params["epochs"] == 5 and "val_loss" in logs
            self.model.stop_training = epoch == 3

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    rows = tf.data.Dataset.from_tensors((tf.ones([4, 2]), tf.ones([4, 1])))
    options = {"steps": 2, "callbacks": [Recorder()]}
    distributed.distributed_fit(model, rows.repeat(6), rows, range(2, 5), **options)
    assert epochs == [2, 3]


@pytest.fixture
def connect(pair, monkeypatch):
    """Connects to the other worker, where `make` replaces TensorFlow's strategy."""
    calls = []
    monkeypatch.setattr(distributed, "wait_for_workers", lambda *a: calls.append(a))

    def connect(make):
        name = "MultiWorkerMirroredStrategy"
        monkeypatch.setattr(distributed.tf.distribute, name, make)
        try:
            return distributed.connect_workers(60)
        finally:
            assert calls == [(PAIR, 60)]

    return connect


def test_signals_end_a_process_while_tensorflow_connects(connect):
    before, handlers = signal.getsignal(signal.SIGINT), []

    def make():
        handlers.append(signal.getsignal(signal.SIGINT))
        return "strategy"

    assert connect(make) == "strategy"
    assert handlers == [signal.SIG_DFL] and signal.getsignal(signal.SIGINT) == before


def test_an_address_that_is_in_use_is_an_error(connect):
    def fail():
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server")

    with pytest.raises(UserError, match=r"Worker 1 .*'b:2' .*\(Could not start"):
        connect(fail)
