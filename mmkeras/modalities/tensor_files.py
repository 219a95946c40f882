"""Tensors of PyTorch and safetensors files, read without PyTorch."""

import collections
import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from mmkeras.errors import UserError, one_line

# Storage of PyTorch -> NumPy.
_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
# Of the format before PyTorch 1.6: pickles of this number, of the version and of the
# system precede that of the tensors, a pickled list of keys and the storages follow.
_MAGIC = 0x1950A86A20F9469CFC6C


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a state dict by name: .safetensors, or .pth of PyTorch.

    A pickle runs code when it is read, so that only the classes of tensors are allowed.

    Raises:
        UserError: The file is of another format, damaged, or has other objects.

    Source: `torch.load`, for the formats of PyTorch.

    Example:
        kernel = read_tensors("model.safetensors")["conv_stem.weight"]
    """
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        with open(path, "rb") as file:
            return _read_legacy(file)
    # A damaged pickle raises errors of any kind.
    except Exception as error:
        raise UserError(
            f"'{path}' is no readable .safetensors or PyTorch file of tensors "
            f"({one_line(error, 200) or type(error).__name__})."
        ) from error


def _read_zip(path):
    with zipfile.ZipFile(path) as file:
        (index,) = [name for name in file.namelist() if name.endswith("data.pkl")]
        folder = index.removesuffix("data.pkl")

        def storage(key, dtype, length):
            return np.frombuffer(file.read(f"{folder}data/{key}"), dtype, length)

        return _load(io.BytesIO(file.read(index)), storage)


def _read_legacy(file):
    storages = {}

    def storage(key, dtype, length):
        return storages.setdefault(key, np.empty(length, dtype))

    if _load(file) != _MAGIC:
        raise ValueError("it does not begin with PyTorch's number")
    _load(file), _load(file)
    tensors = _load(file, storage)
    for key in _load(file):
        (length,) = struct.unpack("<q", file.read(8))
        array = storages[key]
        if length != array.size:
            raise ValueError(f"a storage has {length} values instead of {array.size}")
        array[:] = np.frombuffer(file.read(array.nbytes), array.dtype)
    return tensors


def _load(file, storage: Callable | None = None):
    return _TensorUnpickler(file, storage).load()


class _TensorUnpickler(pickle.Unpickler):
    """Reads a pickle of tensors, by `storage(key, dtype, length)` of their values."""

    _CLASSES = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        **{("torch", name): np.dtype(dtype) for name, dtype in _STORAGES.items()},
    }

    def __init__(self, file, storage):
        super().__init__(file)
        self._storage = storage

    def find_class(self, module, name):
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _strided
        if (module, name) not in self._CLASSES:
            raise pickle.UnpicklingError(f"it has an object {module}.{name}")
        return self._CLASSES[module, name]

    def persistent_load(self, pid):
        _, dtype, key, _, length, *_ = pid
        return self._storage(key, dtype, length)


def _strided(storage, offset, shape, strides, *_):
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if min((offset, *shape, *strides)) < 0 or last >= max(storage.size, 1):
        raise pickle.UnpicklingError("it has a tensor outside its storage")
    strides = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, strides)
