import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.modalities.row_safe import decode_rows


def decode(encoded):
    """Numbers are valid rows, any other string is a broken one."""
    number = tf.strings.to_number(encoded)
    return tf.stack([number, -number])


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
def graph(data):
    return decode_rows(decode, data, tf.TensorSpec([2], tf.float32))


def check(rows):
    values, ok = graph(tf.constant(rows, tf.string))
    numbers = [float(row) if row.isdigit() else 0.0 for row in rows]
    assert values.numpy().tolist() == [[n, -n] for n in numbers]
    assert ok.numpy().tolist() == [row.isdigit() for row in rows]


def test_a_large_batch_has_all_its_rows():
    check([b"%d" % n for n in range(1, 500)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([b"", b"x", b"7"]) | st.from_regex(rb"\A[0-9]{1,4}\Z")))
def test_each_row_is_independent_of_the_others(rows):
    check(rows)


@pytest.mark.parametrize("dtype", [tf.float32, tf.uint8])
def test_a_row_of_the_wrong_shape_is_a_broken_one(dtype):
    good = np.arange(12, dtype=dtype.as_numpy_dtype).reshape(2, 2, 3)
    values, ok = decode_rows(
        lambda row: tf.reshape(tf.io.decode_raw(row, dtype), [-1, 2, 3]),
        tf.constant([good.tobytes(), good[:1].tobytes(), b"short"]),
        tf.TensorSpec([2, 2, 3], dtype),
    )
    assert (values.dtype, values.shape) == (dtype, (3, 2, 2, 3))
    np.testing.assert_array_equal(values, [good, 0 * good, 0 * good])
    assert ok.numpy().tolist() == [True, False, False]
