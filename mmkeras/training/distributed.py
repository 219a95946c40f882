"""Data-parallel training on several GPUs and several workers."""

import hashlib
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import keras
import tensorflow as tf

from mmkeras.errors import LostWorkerError, UserError, one_line
from mmkeras.layers.replica_dropout import ReplicaAwareRandom
from mmkeras.training.cluster import read_cluster
from mmkeras.training.rendezvous import wait_for_workers

# The workers of a job can start minutes apart, if container images are pulled first.
_START_S = 600
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
RESTART_HINT = "Start all workers again with the same command: the run goes on."


@cache
def strategy() -> tf.distribute.Strategy:
    """Returns the one strategy of this process, for TF_CONFIG's workers or the GPUs.

    With several workers, call it before TensorFlow does anything else.

    Raises:
        UserError: Not all workers have connected in time.
    """
    if read_cluster().workers > 1:
        return connect_workers(_START_S)
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def connect_workers(timeout_s: float) -> tf.distribute.Strategy:
    """Waits for all workers of TF_CONFIG, and returns their strategy."""
    cluster = read_cluster()
    wait_for_workers(cluster, timeout_s)
    try:
        with _default_signal_handlers():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        address = cluster.addresses[cluster.index]
        raise UserError(
            f"Worker {cluster.index} cannot use its address '{address}' of TF_CONFIG "
            f"({one_line(error, 200)}). "
            "Give it a free port of this machine, in the TF_CONFIG of all workers."
        ) from None


@contextmanager
def _default_signal_handlers():
    """Lets signals end the process: Python's handlers do not run while TF connects."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, signal.SIG_DFL) for s in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def translate_worker_errors() -> Iterator[None]:
    """Turns TensorFlow's error about a lost worker into a LostWorkerError of one line.

    TensorFlow 2.16 notices a closed connection at once, and a worker that hangs after
    10 seconds without a heartbeat.
    """
    try:
        yield
    except tf.errors.OpError as error:
        text = str(error)
        if read_cluster().workers == 1 or "ollective" not in text:
            raise
        reason = text.partition("aborted by: ")[2].partition("\n")[0] or one_line(text)
        text = f"Another worker is gone ({reason[:160]}). {RESTART_HINT}"
        raise LostWorkerError(text) from None


def assert_same_on_all_workers(text: str) -> None:
    """Raises a UserError on every worker if one has a different text."""
    distribution = strategy()
    if read_cluster().workers == 1:
        return
    digest = hashlib.sha256(text.encode()).digest()
    # Numbers of 24 bits: exact in float32, which every kind of device can gather.
    numbers = [float(int.from_bytes(digest[i : i + 3], "big")) for i in (0, 3)]

    @tf.function(autograph=False)
    def gather():
        def gather_on_replica():
            replica = tf.distribute.get_replica_context()
            return replica.all_gather(tf.constant([numbers]), axis=0)

        return distribution.run(gather_on_replica)

    result = distribution.experimental_local_results(gather())[0].numpy()
    if (result != result[0]).any():  # (workers, 2)
        raise UserError(
            "The workers have different settings, rows or checkpoints. Start each with "
            "the same command, on the same table, with one --output that all can read."
        )


def check_divisible_batch(batch_rows: int) -> None:
    """Checks that the devices of several workers can share a batch evenly."""
    replicas = strategy().num_replicas_in_sync
    if read_cluster().workers > 1 and batch_rows % replicas:
        raise UserError(
            f"A batch of {batch_rows} rows cannot be shared evenly by {replicas} "
            "devices. Give --train.batch_size "
            f"{max(replicas, batch_rows // replicas * replicas)}."
        )


def enable_replica_sync(model: keras.Model) -> None:
    """Makes layers treat the parts of a batch on several devices as one batch.

    Batch normalization takes its statistics over all rows, and dropout draws the same
    mask for a row as on one device.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
        if isinstance(layer, ReplicaAwareRandom):
            layer.replica = _replica_index_and_count


def _replica_index_and_count():
    replica = tf.distribute.get_replica_context()
    if replica is None:
        return 0, 1
    return replica.replica_id_in_sync_group, replica.num_replicas_in_sync


def distributed_fit(
    model: keras.Model,
    train: tf.data.Dataset,
    val: tf.data.Dataset,
    epochs: Sequence[int],
    steps: int,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Trains like `model.fit`, on several workers.

    `fit` of Keras 3.10 fails under their strategy: it reduces the first batch outside
    of it ("Attempt to convert a value (PerReplica...) to a Tensor"). TensorFlow's way
    is a custom loop around `Strategy.run`; the steps are still the model's. `train` has
    all epochs in one pass, batches of all workers.
    """
    distribution = model.distribute_strategy
    train_step, test_step = (
        _on_all_replicas(distribution, s) for s in (model.train_step, model.test_step)
    )
    batches = iter(distribution.experimental_distribute_dataset(train))
    val = distribution.experimental_distribute_dataset(val)
    callback_list = keras.callbacks.CallbackList(
        callbacks,
        model=model,
        epochs=epochs[-1] + 1,
        steps=steps,
    )
    model.stop_training = False
    callback_list.on_train_begin()
    for epoch in epochs:
        model.reset_metrics()
        callback_list.on_epoch_begin(epoch)
        for step in range(steps):
            callback_list.on_train_batch_begin(step)
            train_step(next(batches))
            callback_list.on_train_batch_end(step, {})
        logs = _results(model) | _validate(model, test_step, val, callback_list)
        callback_list.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callback_list.on_train_end()


def _validate(model, test_step, val, callback_list):
    callback_list.on_test_begin()
    model.reset_metrics()
    for batch in val:
        test_step(batch)
    logs = _results(model)
    callback_list.on_test_end(logs)
    return {f"val_{name}": value for name, value in logs.items()}


def _on_all_replicas(distribution, step):
    @tf.function(autograph=False, reduce_retracing=True)
    def distributed_step(batch):
        distribution.run(step, args=(batch,))

    return distributed_step


def _results(model):
    return {name: float(value) for name, value in model.get_metrics_result().items()}
