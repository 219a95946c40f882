"""Several GPUs and several workers: one model, each with its share of every batch."""

import hashlib
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from traceback import clear_frames

import keras
import tensorflow as tf

from mmkeras.errors import UserError
from mmkeras.training.cluster import read_cluster
from mmkeras.training.rendezvous import wait_for_workers

# Workers of a job can start minutes apart, where images are pulled first.
_START_S = 600
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = "Start all workers again with the same command: the run goes on."


@cache
def strategy() -> tf.distribute.Strategy:
    """Returns what TF_CONFIG and the GPUs ask for; with neither, TF's default.

    Several workers need MultiWorkerMirroredStrategy, which must be made before
    TensorFlow does anything else; several GPUs MirroredStrategy. The same object each
    time: a model belongs to the strategy that it was built in.

    Raises:
        UserError: Not all workers came.
    """
    if read_cluster().workers > 1:
        return _joined(_START_S)
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def _joined(seconds: float) -> tf.distribute.Strategy:
    cluster = read_cluster()
    wait_for_workers(cluster, seconds)
    try:
        with _heard_signals():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.OpError as error:
        raise UserError(
            f"Worker {cluster.place} cannot be '{cluster.addresses[cluster.place]}' of "
            f"TF_CONFIG ({_words(error)}). Give it an address of its own and a free "
            "port, for all workers."
        ) from None


@contextmanager
def _heard_signals():
    """Lets signals end the process: TensorFlow, while it connects, stops Python."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {s: signal.signal(s, signal.SIG_DFL) for s in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _words(error: Exception) -> str:
    text = next((line for line in str(error).splitlines() if line.strip()), "")
    return text.strip()[:200]


@contextmanager
def translate_worker_errors() -> Iterator[None]:
    """Makes one line of what TensorFlow raises when another worker is gone.

    TensorFlow 2.16 notices a closed connection at once, and a worker that stands
    still after 10 seconds without a heartbeat.
    """
    try:
        yield
    except tf.errors.OpError as error:
        text = str(error)
        if read_cluster().workers == 1 or "ollective" not in text:
            raise
        lines = [line for line in text.splitlines() if "aborted by" in line]
        # TensorFlow's frames hold a pool of threads that would complain at the end.
        clear_frames(error.__traceback__)
        why = lines[0].partition("aborted by: ")[2] if lines else _words(error)
        raise UserError(f"Another worker is gone ({why[:160]}). {AGAIN}") from None


def assert_same_on_all_workers(what: str) -> None:
    """Compares a text with the other workers'.

    Raises:
        UserError: On each of them, when one has another text.
    """
    together = strategy()
    if read_cluster().workers == 1:
        return
    digest = hashlib.sha256(what.encode()).digest()
    # Numbers of 24 bits: whole in float32, which every kind of device can gather.
    own = [float(int.from_bytes(digest[i : i + 3], "big")) for i in (0, 3)]

    @tf.function(autograph=False)
    def gather():
        def gathered():
            here = tf.distribute.get_replica_context()
            return here.all_gather(tf.constant([own]), axis=0)

        return together.run(gathered)

    found = together.experimental_local_results(gather())[0].numpy()  # (workers, 2)
    if (found != found[0]).any():
        raise UserError(
            "The workers have different settings, rows or checkpoints. Start each with "
            "the same command, on the same table, with one --output that all can read."
        )


def check_divisible_batch(batch_rows: int) -> None:
    """Refuses batches that the devices of several workers cannot share evenly."""
    places = strategy().num_replicas_in_sync
    if read_cluster().workers > 1 and batch_rows % places:
        raise UserError(
            f"A batch of {batch_rows} rows cannot be shared evenly by {places} "
            "devices. Give --train.batch_size "
            f"{max(places, batch_rows // places * places)}."
        )


def enable_replica_sync(model: keras.Model) -> None:
    """Makes layers that regard a whole batch do so over all devices that share it.

    Batch normalization takes the statistics of all its rows, and dropout draws for
    each row what it would draw on one device.
    """
    if model.distribute_strategy.num_replicas_in_sync == 1:
        return
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
        if hasattr(layer, "share"):
            layer.share = _own_place


def _own_place():
    here = tf.distribute.get_replica_context()
    if here is None:
        return 0, 1
    return here.replica_id_in_sync_group, here.num_replicas_in_sync


def distributed_fit(
    model: keras.Model,
    train: tf.data.Dataset,
    val: tf.data.Dataset,
    epochs: Sequence[int],
    steps: int,
    callbacks: Sequence[keras.callbacks.Callback],
    verbose: int,
) -> None:
    """Does what `model.fit` does, on several workers.

    Keras 3.10's own `fit` refuses their strategy: it reduces the first batch outside
    of it ("Attempt to convert a value (PerReplica...) to a Tensor"). TensorFlow's way
    is a loop of one's own around `Strategy.run`; the steps are still the model's.

    Args:
        model: Compiled under the strategy.
        train: All epochs behind each other, batches of all workers.
        val: One pass.
        epochs: Numbers of those to train.
        steps: Batches in an epoch.
        callbacks: As `fit` takes them.
        verbose: 1 for a bar, 2 for a line an epoch.
    """
    together = model.distribute_strategy
    train_step, test_step = (
        _on_all(together, s) for s in (model.train_step, model.test_step)
    )
    batches = iter(together.experimental_distribute_dataset(train))
    val = together.experimental_distribute_dataset(val)
    called = keras.callbacks.CallbackList(
        callbacks,
        add_progbar=True,
        model=model,
        verbose=verbose,
        epochs=epochs[-1] + 1,
        steps=steps,
    )
    model.stop_training = False
    called.on_train_begin()
    for epoch in epochs:
        model.reset_metrics()
        called.on_epoch_begin(epoch)
        for step in range(steps):
            called.on_train_batch_begin(step)
            train_step(next(batches))
            called.on_train_batch_end(step, {})
        logs = _results(model)
        called.on_epoch_end(epoch, logs | _validated(model, test_step, val, called))
        if model.stop_training:
            break
    called.on_train_end()


def _validated(model, test_step, val, called):
    called.on_test_begin()
    model.reset_metrics()
    for batch in val:
        test_step(batch)
    logs = _results(model)
    called.on_test_end(logs)
    return {f"val_{name}": value for name, value in logs.items()}


def _on_all(together, step):
    @tf.function(autograph=False, reduce_retracing=True)
    def on_all(batch):
        together.run(step, args=(batch,))

    return on_all


def _results(model):
    return {name: float(value) for name, value in model.get_metrics_result().items()}
