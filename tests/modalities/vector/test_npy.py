"""Lists of numbers as .npy files."""

from mmkeras.modalities.vector.npy import npy_bytes, npy_numbers


def test_npy_bytes_are_a_version_1_file():
    assert npy_bytes([1, 2])[:8] == b"\x93NUMPY\x01\x00"
    assert npy_numbers(npy_bytes([1, 2.5])) == [1.0, 2.5]
