import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from mmkeras.errors import UserError
from mmkeras.modalities.tensor_files import read_tensors

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)
COUNT = np.array(7, np.int64)
STORAGES = {"float32": "FloatStorage", "int64": "LongStorage"}


class _Global:
    """Pickles as a name of a module, as classes of PyTorch do."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class _Tensor:
    def __init__(self, array, strides=None, offset=0):
        self.array, self.offset = array, offset
        self.strides = strides or tuple(s // array.itemsize for s in array.strides)


class _Pickler(pickle._Pickler):
    """Writes tensors as `torch.save` does, without PyTorch."""

    def __init__(self, file):
        super().__init__(file, protocol=2)
        self.arrays = []

    def persistent_id(self, obj):
        if isinstance(obj, np.ndarray):
            self.arrays.append(obj)
            kind = _Global("torch", STORAGES[obj.dtype.name])
            return "storage", kind, str(len(self.arrays) - 1), "cpu", obj.size, None
        return None

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, _Global):
            return self.write(f"c{obj.module}\n{obj.name}\n".encode())
        if isinstance(obj, _Tensor):
            self.save(_Global("torch._utils", "_rebuild_tensor_v2"))
            shape = obj.array.shape
            arguments = obj.array, obj.offset, shape, obj.strides, False, OrderedDict()
            self.save(arguments)
            return self.write(pickle.REDUCE)
        return super().save(obj, save_persistent_id)


def dump(tensors):
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(tensors)
    return file.getvalue(), pickler.arrays


def write_zip(path, tensors):
    content, arrays = dump(tensors)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", content)
        for i, array in enumerate(arrays):
            file.writestr(f"archive/data/{i}", array.tobytes())


def write_legacy(path, tensors):
    content, arrays = dump(tensors)
    with path.open("wb") as file:
        for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            file.write(pickle.dumps(header, 2))
        file.write(content)
        file.write(pickle.dumps([str(i) for i in range(len(arrays))], 2))
        for array in arrays:
            file.write(struct.pack("<q", array.size) + array.tobytes())


writers = pytest.mark.parametrize("write", [write_zip, write_legacy])


@writers
def test_tensors_of_pytorch_are_read(write, tmp_path):
    transposed = _Tensor(MATRIX.reshape(3, 2), strides=(1, 3))
    tensors = {"a.weight": _Tensor(MATRIX), "t": transposed, "n": _Tensor(COUNT)}
    write(tmp_path / "a.pth", OrderedDict(tensors))
    result = read_tensors(tmp_path / "a.pth")
    assert list(result) == ["a.weight", "t", "n"]
    np.testing.assert_array_equal(result["a.weight"], MATRIX)
    np.testing.assert_array_equal(result["t"], MATRIX.T)
    assert result["n"].shape == () and result["n"] == 7


@writers
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a": _Global("os", "system")}, "an object os.system"),
        ({"a": _Global("torch.nn", "Module")}, "an object torch.nn.Module"),
        ({"a": _Tensor(MATRIX, offset=1)}, "outside its storage"),
        ({"a": _Tensor(MATRIX, strides=(4, 1))}, "outside its storage"),
    ],
)
def test_other_objects_are_never_built(write, content, reason, tmp_path):
    write(tmp_path / "a.pth", content)
    with pytest.raises(UserError, match=rf"\A'.*a.pth' is no readable.*{reason}.*\Z"):
        read_tensors(tmp_path / "a.pth")


def write_safetensors(path, tensors):
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for name, (kind, array) in tensors.items():
        offsets = [len(content), len(content) + array.nbytes]
        entry = {"dtype": kind, "shape": array.shape, "data_offsets": offsets}
        header[name], content = entry, content + array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def test_tensors_of_safetensors_are_read(tmp_path):
    half = MATRIX.astype(np.float16)
    tensors = {"a": ("F32", MATRIX), "b": ("F16", half), "n": ("I64", COUNT)}
    write_safetensors(tmp_path / "a.safetensors", tensors)
    result = read_tensors(tmp_path / "a.safetensors")
    assert list(result) == ["a", "b", "n"]
    for name, (_, array) in tensors.items():
        np.testing.assert_array_equal(result[name], array)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("content", [b"", b"text", struct.pack("<Q", 1) + b"{}"])
def test_another_file_is_refused_in_one_line(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"\A'.*{name}' is no readable.*\Z"):
        read_tensors(tmp_path / name)
