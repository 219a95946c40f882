import re

import pyarrow as pa
import pytest

from mmkeras.data.tables import BadCell, Embedded
from mmkeras.data.tables.arrow import (
    arrow_errors,
    class_names,
    is_embedded,
    iter_batches,
)
from mmkeras.errors import UserError

FILE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
AUDIO = pa.struct({"array": pa.list_(pa.float32()), "sampling_rate": pa.int64()})


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.binary(), True),
        (pa.large_binary(), True),
        (pa.binary(4), True),
        (pa.dictionary(pa.int32(), pa.binary()), True),
        (FILE, True),
        (AUDIO, True),
        (pa.list_(FILE), True),
        (pa.list_(pa.binary()), True),
        (pa.list_(pa.int8()), True),
        (pa.string(), False),
        (pa.decimal128(5, 2), False),
        (pa.list_(pa.string()), False),
        (pa.list_(pa.list_(pa.int8())), False),
        (pa.struct({"x": pa.binary()}), False),
        (pa.map_(pa.string(), pa.binary()), False),
        (pa.dictionary(pa.int32(), pa.string()), False),
    ],
)
def test_types_of_bytes_and_vectors_are_embedded(kind, expected):
    assert is_embedded(kind) == expected


def test_rows_are_numbered_over_batches_and_columns_are_renamed():
    batches = pa.table({"a ": ["x", "y", "z"], "b": [0, 7, 1]}).to_batches(2)
    rows = list(iter_batches(batches, {"b": "label", "a ": "a"}, {"b": ["c", "d"]}))
    assert rows == [
        (0, {"label": "c", "a": "x"}),
        (1, {"label": BadCell(reason="is class number 7 of 2 classes"), "a": "y"}),
        (2, {"label": "d", "a": "z"}),
    ]


def test_a_slice_of_structs_has_its_own_rows():
    array = pa.array([{"bytes": None, "path": p} for p in "abc"] + [None], FILE)
    batch = pa.record_batch([array], ["image"]).slice(1)
    rows = iter_batches([batch], {"image": "image"}, {}, "x.arrow")
    assert [row["image"] for _, row in rows] == ["b", "c", ""]


def broken_text():
    """Returns an array of strings of which the second is not UTF-8."""
    good = pa.array(["ok", "xx"])
    data = pa.py_buffer(b"ok\xff\xff")
    return pa.StringArray.from_buffers(2, good.buffers()[1], data)


@pytest.mark.parametrize(
    "array",
    [
        broken_text(),
        pa.array([0, 2**62], pa.timestamp("us")),
        pa.array([0, -(2**62)], pa.date64()),
        pa.array([None, 0], pa.timestamp("us", "Mars/X")),
        pa.array([None, 0], pa.timestamp("ns", "Mars/X")),
    ],
)
def test_a_value_that_python_does_not_have_is_a_bad_cell(array):
    batch = pa.record_batch([array], ["x"])
    (_, first), (_, second) = iter_batches([batch], {"x": "x"}, {})
    assert isinstance(first["x"], str)
    kind = str(array.type).partition("[")[0]
    assert re.match(rf"is a {kind}.* that cannot be read", second["x"].reason)


def test_vectors_of_a_fixed_size_may_be_absent():
    array = pa.array([[1, 2], None], pa.list_(pa.float32(), 2))
    batches = [pa.record_batch([array], ["x"])]
    (_, first), (_, second) = iter_batches(batches, {"x": "text"}, {}, "x.arrow")
    assert first["text"] == Embedded(file="x.arrow", column="x", row=0)
    assert second["text"] == ""


@pytest.mark.parametrize(
    "feature",
    [
        {"names": ["a"], "_type": "ClassLabel"},
        {"feature": {"names": ["a"], "_type": "ClassLabel"}, "_type": "Sequence"},
        [{"names": ["a"], "_type": "ClassLabel"}],
    ],
)
def test_class_names_are_found_in_features(feature):
    features = {"label": feature, "text": {"dtype": "string", "_type": "Value"}}
    features["boxes"] = {"x": {"dtype": "int64", "_type": "Value"}}
    features |= {"none": None, "empty": [], "kind": "string"}
    assert class_names(features) == {"label": ["a"]}
    assert class_names(schema=pa.schema({"label": pa.int64()})) == {}


def test_an_error_of_arrow_is_one_line_with_a_remedy():
    with pytest.raises(UserError, match="^a cannot be read as Parquet: x y. .* anew.$"):
        with arrow_errors("a", "Parquet"):
            raise pa.ArrowInvalid("x\ny")
