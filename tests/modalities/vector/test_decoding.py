import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.modalities.vector.decoding import decode_vector

VECTOR = np.array([0.0, -1.5, 2.25, 1024.0])


def npy(array, version=(1, 0)):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), version=version)
    return file.getvalue()


@pytest.fixture(scope="module")
def decoded():
    string = [tf.TensorSpec([], tf.string)]
    graph = tf.function(lambda d: decode_vector(d, 4), string, autograph=False)
    return lambda data: graph(data).numpy()


@pytest.mark.parametrize("shape", [(4,), (1, 4)])
@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8"])
def test_floats_of_each_width_give_their_numbers(decoded, kind, shape):
    result = decoded(npy(VECTOR.astype(kind).reshape(shape)))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, VECTOR)


REFUSED = {
    "too wide": npy(np.zeros(5)),
    "too narrow": npy(np.zeros(3)),
    "narrow doubles as wide floats": npy(np.zeros(2)),
    "wide halves as narrow floats": npy(np.zeros(8, "<f2")),
    "several rows": npy(np.zeros((2, 4))),
    "big-endian": npy(VECTOR.astype(">f4")),
    "integers": npy(np.arange(4)),
    "complex": npy(np.zeros(2, "<c8")),
    "strings": npy(np.array(["a", "b", "c", "d"])),
    "NaN": npy([0.0, np.nan, 0.0, 0.0]),
    "infinity": npy([0.0, np.inf, 0.0, 0.0]),
    "beyond float32": npy([0.0, 1e300, 0.0, 0.0]),
    "cut": npy(VECTOR)[:-1],
    "one byte too many": npy(VECTOR) + b"\0",
    "cut in the header": npy(VECTOR)[:9],
    "format 2.0": npy(VECTOR, (2, 0)),
    "a zip": b"PK\x03\x04" + npy(VECTOR),
    "nothing": b"",
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_such_vector_is_refused(decoded, what):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoded(REFUSED[what])


def test_columns_first_is_the_same_for_one_row(decoded):
    data = npy(np.asfortranarray(VECTOR.reshape(1, 4)))
    np.testing.assert_array_equal(decoded(data), VECTOR)


def test_several_rows_are_refused_in_either_order(decoded):
    square = np.asfortranarray(np.arange(4.0).reshape(2, 2))  # as many as wanted
    assert b"'fortran_order': True" in npy(square)
    for array in (square, np.ascontiguousarray(square)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoded(npy(array))


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 143), st.integers(0, 255)), max_size=6),
    st.binary(max_size=20),
)
def test_a_changed_file_is_refused_or_four_finite_numbers(decoded, changes, noise):
    data = bytearray(npy(VECTOR.astype("<f4")))
    for place, value in changes:
        data[place] = value
    for candidate in (bytes(data), noise, b"\x93NUMPY" + noise):
        try:
            result = decoded(candidate)
        except tf.errors.InvalidArgumentError:
            continue
        assert result.shape == (4,)
        assert np.isfinite(result).all()
