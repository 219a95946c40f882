import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pyarrow as pa
import pytest

from mmkeras.data.tables import Embedded
from mmkeras.data.tables.embedded import is_number_list
from mmkeras.modalities.file import Unreadable


@pytest.fixture
def stream(tmp_path):
    """Writes an Arrow IPC stream of several batches and returns its path."""

    def write(values, sizes, name="a.arrow"):
        path, values = str(tmp_path / name), iter(values)
        schema = pa.schema({"x": pa.binary()})
        with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for size in sizes:
                batch = [next(values) for _ in range(size)]
                writer.write_batch(pa.record_batch([pa.array(batch, "binary")], schema))
        return path

    return write


VALUES = [b"%d" % i for i in range(1000)]


def test_cells_of_several_batches_are_read_from_several_threads(stream):
    file = stream(VALUES, [0, 1, 0, 400, 599, 0])
    with ThreadPoolExecutor(8) as pool:
        cells = [Embedded(file=file, column="x", row=i) for i in range(1000)]
        assert list(pool.map(Embedded.read, cells)) == VALUES


def test_a_reference_can_be_written_as_json(stream):
    cell = Embedded(file=stream(VALUES, [9]), column="x", row=5)
    assert Embedded(**json.loads(json.dumps(asdict(cell)))).read() == b"5"


def test_a_file_that_is_written_again_is_read_again(stream, tmp_path):
    cell = Embedded(file=stream(VALUES, [9]), column="x", row=5)
    assert cell.read() == b"5"
    other = stream(VALUES[100:], [9], "b.arrow")
    (tmp_path / "b.arrow").rename(tmp_path / "a.arrow")
    assert cell.read() == b"105" and other


def test_a_file_that_is_gone_is_unreadable(tmp_path):
    cell = Embedded(file=str(tmp_path / "no.arrow"), column="x", row=0)
    with pytest.raises(Unreadable, match="no.arrow cannot be read: No such file"):
        cell.read()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.list_(pa.float32()), True),
        (pa.list_(pa.int8(), 3), True),
        (pa.list_(pa.string()), False),
        (pa.list_(pa.list_(pa.float32())), False),
        (pa.float32(), False),
    ],
)
def test_lists_of_numbers_are_known_by_their_type(kind, expected):
    assert is_number_list(kind) == expected
