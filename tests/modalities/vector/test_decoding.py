import numpy as np
import pytest
import tensorflow as tf

from mmkeras.modalities.vector.decoding import decode_vector
from tests.modalities.encoded_media import encode_vector as npy
from tests.modalities.encoded_media import traced

VECTOR = np.array([0.0, -1.5, 2.25, 1024.0])
SQUARE = np.arange(4.0).reshape(2, 2)  # as many numbers as expected


def decode(data):
    return traced(decode_vector, 4)(data).numpy()


@pytest.mark.parametrize("shape", [(4,), (1, 4)])
@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8"])
def test_floats_of_each_width_give_their_numbers(kind, shape):
    array = VECTOR.astype(kind).reshape(shape)
    for data in (npy(array), npy(np.asfortranarray(array))):
        result = decode(data)
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, VECTOR)


REFUSED = {
    "too wide": npy(np.zeros(5)),
    "too narrow": npy(np.zeros(3)),
    "narrow doubles as wide floats": npy(np.zeros(2)),
    "wide halves as narrow floats": npy(np.zeros(8, "<f2")),
    "several rows": npy(np.zeros((2, 4))),
    "several short rows": npy(SQUARE),
    "several columns": npy(np.asfortranarray(SQUARE)),
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


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_file_is_refused(name):
    assert (b"'fortran_order': True" in REFUSED[name]) == (name == "several columns")
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode(REFUSED[name])
