import numpy as np
import pytest

from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.vector.reading import prepare_vector, vector_width
from tests.modalities.encoded_media import encode_vector

FIVE = encode_vector(np.zeros(5))


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "<i8", "u1", ">i2"])
@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_any_vector_becomes_the_same_file_of_float32(dtype, shape):
    vector = np.arange(5).astype(dtype)
    result = prepare_vector(encode_vector(vector.reshape(shape, order="F")))
    assert result == encode_vector(np.arange(5, dtype="<f4"))
    assert vector_width(result) == 5


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "file is empty"),
        (b"1,2,3", "unreadable .npy"),
        (FIVE[:-1], "truncated .npy"),
        (encode_vector(np.zeros(0)), "of shape"),
        (encode_vector(np.zeros((2, 5))), "of shape"),
        (encode_vector(np.array(1.0)), "of shape"),
        (encode_vector(np.array([1j])), "of type complex128"),
        (encode_vector(np.array([None])), "of type object"),
        (encode_vector(np.array([1.0, np.nan])), "not finite"),
        (encode_vector(np.array([1e300])), "not finite"),
        (FIVE.replace(b"(5,), }  ", b"(9**9,)}"), "unreadable .npy"),
        (FIVE.replace(b"(5,), }         ", b"(5000000000,), }"), "truncated"),
    ],
)
def test_the_reason_names_why_a_vector_is_unreadable(data, reason):
    with pytest.raises(Unreadable, match=reason):
        prepare_vector(data)
