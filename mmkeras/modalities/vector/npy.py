"""Lists of numbers as .npy files."""

import io

NPY = b"\x93NUMPY"  # begins a .npy file


def npy_bytes(numbers: object) -> bytes:
    """Returns a .npy file with a vector of little-endian float32; None is NaN."""
    import numpy as np

    file = io.BytesIO()
    vector = np.asarray(numbers, "<f4")
    np.lib.format.write_array(file, vector, version=(1, 0), allow_pickle=False)
    return file.getvalue()


def npy_numbers(data: bytes) -> list[float]:
    """Returns the numbers of a result of `npy_bytes`."""
    import numpy as np

    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False).tolist()
