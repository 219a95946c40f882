import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.modalities.row_safe import decode_rows


def pair(encoded):
    """Numbers are good rows, any other string is a broken one."""
    number = tf.strings.to_number(encoded)
    return tf.stack([number, -number])


@pytest.fixture(scope="module")
def decoded():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def graph(data):
        return decode_rows(pair, data, tf.TensorSpec([2], tf.float32))

    def call(rows):
        values, ok = graph(tf.constant(rows, tf.string))
        return values.numpy().tolist(), ok.numpy().tolist()

    return call


def expected(rows):
    number = [float(row) if row.isdigit() else 0.0 for row in rows]
    return [[n, -n] for n in number], [row.isdigit() for row in rows]


def test_broken_and_absent_rows_do_not_disturb_the_others(decoded):
    rows = [b"1", b"broken", b"3", b"", b"5"]
    values, ok = decoded(rows)
    assert values == [[1, -1], [0, 0], [3, -3], [0, 0], [5, -5]]
    assert ok == [True, False, True, False, True]


def test_many_rows_keep_their_order(decoded):
    rows = [b"%d" % n for n in range(1, 500)]
    assert decoded(rows) == expected(rows)


@pytest.mark.parametrize("rows", [[], [b""], [b"x"], [b"x", b"", b"y"], [b"", b""]])
def test_a_batch_without_a_good_row_is_all_zeros(decoded, rows):
    assert decoded(rows) == ([[0, 0]] * len(rows), [False] * len(rows))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([b"", b"x", b"7"]) | st.from_regex(rb"\A[0-9]{1,4}\Z")))
def test_each_row_is_as_it_is_alone(decoded, rows):
    assert decoded(rows) == expected(rows)


def test_a_row_of_the_wrong_shape_is_a_broken_one():
    spec = tf.TensorSpec([2], tf.float32)
    values, ok = decode_rows(
        lambda row: tf.io.decode_raw(row, tf.float32),
        tf.constant([np.float32([1, 2]).tobytes(), b"\0" * 4]),
        spec,
    )
    assert values.numpy().tolist() == [[1, 2], [0, 0]]
    assert ok.numpy().tolist() == [True, False]


def test_pictures_keep_their_type_and_shape():
    spec = tf.TensorSpec([2, 2, 3], tf.uint8)
    values, ok = decode_rows(
        lambda row: tf.reshape(tf.io.decode_raw(row, tf.uint8), [2, 2, 3]),
        tf.constant([bytes(range(12)), b"short"]),
        spec,
    )
    assert (values.dtype, values.shape) == (tf.uint8, (2, 2, 2, 3))
    assert values[0].numpy().ravel().tolist() == list(range(12))
    assert ok.numpy().tolist() == [True, False]
