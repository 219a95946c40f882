"""Process-wide state that training sets, and that it leaves as it was."""

import logging
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, RLock

import numpy as np
import tensorflow as tf

# TensorFlow has no public functions that read or restore these.
from tensorflow.python.eager import context
from tensorflow.python.framework import config as determinism

OutOfMemoryError = tf.errors.ResourceExhaustedError  # of a device

_LOCK = RLock()
# Block of `errors_only` that has not ended -> level to restore after it.
_LEVELS, _LEVELS_LOCK = {}, Lock()


def set_seeds(seed: int) -> None:
    """Seeds Python, NumPy and TensorFlow; on CPUs, makes all ops deterministic.

    Not `keras.utils.set_random_seed`, which also sets a seed of Keras that cannot be
    unset. Keras' layers draw their seeds from Python's generator.
    """
    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)
    if not tf.config.list_physical_devices("GPU"):  # free on CPUs
        tf.config.experimental.enable_op_determinism()


@contextmanager
def errors_only() -> Iterator[None]:
    """Lets TensorFlow log errors only, in a block.

    Several threads may be in such a block; the end of the last one restores the level.
    """
    logger, block = tf.get_logger(), object()
    with _LEVELS_LOCK:
        _LEVELS[block] = logger.level
        logger.setLevel("ERROR")
    try:
        yield
    finally:
        with _LEVELS_LOCK:
            later = list(_LEVELS)[list(_LEVELS).index(block) + 1 :]
            level = _LEVELS.pop(block)
            if later:
                _LEVELS[later[0]] = level
            else:
                logger.setLevel(level)


@contextmanager
def restored_state() -> Iterator[None]:
    """Restores seeds and determinism after a block, in which errors are logged only.

    So are warnings' filters, and what TensorFlow's export does to Python's logging.
    Keras' warning of attention to a single token, as vectors are, is not shown. One
    thread at a time is in such a block; others wait.

    Example:
        with restored_state():
            set_seeds(1)
    """
    with _LOCK, errors_only(), _restored_logging(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using a softmax over axis")
        eager = context.context()
        python, numpy = random.getstate(), np.random.get_state()
        seed, generator = eager._seed, getattr(eager, "_rng", None)  # of eager ops
        was_deterministic = determinism.is_op_determinism_enabled()
        try:
            yield
        finally:
            if not was_deterministic:
                determinism.disable_op_determinism()
            tf.random.set_seed(seed)
            if generator is not None:
                eager._rng = generator  # goes on where it was
            np.random.set_state(numpy)
            random.setstate(python)


@contextmanager
def _restored_logging() -> Iterator[None]:
    """Restores the handlers of the root logger and the level of absl's."""
    absl = logging.getLogger("absl")
    level, handlers = absl.level, list(logging.root.handlers)
    try:
        yield
    finally:
        absl.setLevel(level)
        for handler in set(logging.root.handlers) - set(handlers):
            logging.root.removeHandler(handler)
