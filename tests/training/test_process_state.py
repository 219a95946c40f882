import logging
import random
import warnings
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from mmkeras.training.process_state import errors_only, restored_state, set_seeds


def draw():
    return random.random(), np.random.rand(), float(tf.random.uniform([]))


@pytest.mark.parametrize("seed", [3, None])
def test_random_numbers_go_on_after_the_block(seed):
    random.seed(1), np.random.seed(1), tf.random.set_seed(seed)
    tf.get_logger().setLevel("INFO")
    draw()
    python, numpy = random.getstate(), np.random.get_state()
    with pytest.raises(KeyError), restored_state():
        set_seeds(7)
        inner = draw()
        assert tf.get_logger().level == logging.ERROR
        raise KeyError
    assert tf.get_logger().level == logging.INFO
    expected = random.random(), np.random.rand()
    random.setstate(python), np.random.set_state(numpy)
    assert (random.random(), np.random.rand()) == expected
    with restored_state():
        set_seeds(7)
        assert draw() == inner


def test_blocks_of_several_threads_leave_the_log_level_as_it_was():
    """The first thread leaves its block while the second one is in its own."""
    tf.get_logger().setLevel("INFO")
    first, second = Event(), Event()

    def enter_first():
        with errors_only():
            first.set()
            assert second.wait(10)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(enter_first)
        assert first.wait(10)
        with errors_only():
            second.set()
            other.result()
            assert tf.get_logger().level == logging.ERROR
    assert tf.get_logger().level == logging.INFO


def test_the_seed_of_tensorflow_goes_on_where_it_was():
    tf.random.set_seed(3)
    expected = [float(tf.random.uniform([])) for _ in range(3)]
    tf.random.set_seed(3)
    values = [float(tf.random.uniform([]))]
    with restored_state():
        set_seeds(7)
        draw()
    values += [float(tf.random.uniform([])) for _ in range(2)]
    assert values == expected


def test_determinism_is_on_in_the_block_only():
    tf.random.set_seed(None)
    with restored_state():
        set_seeds(7)
        tf.random.set_seed(None)
        with pytest.raises(RuntimeError, match="determinism"):
            tf.random.uniform([])
    tf.random.uniform([])


def test_warning_filters_and_the_log_handlers_of_an_export_are_removed():
    root, absl = logging.root, logging.getLogger("absl")
    handlers, level, filters = list(root.handlers), absl.level, list(warnings.filters)
    with restored_state():
        root.addHandler(logging.StreamHandler())
        absl.setLevel(level + 1)
        warnings.simplefilter("ignore")
    assert (root.handlers, absl.level, warnings.filters) == (handlers, level, filters)


def test_attention_to_a_single_token_has_no_warning_of_keras():
    weights = np.ones((2, 1), "float32")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with restored_state():
            ops.softmax(weights)
        assert not shown
        ops.softmax(weights)
    assert "softmax over axis" in str(shown[0].message)
