import csv
import io
import json
import random

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.data.tables import Embedded, open_table
from mmkeras.errors import UserError

IMAGES = [{"bytes": b"x%d" % i, "path": f"{i}.png"} for i in range(600)]
IMAGES[1] = {"bytes": None, "path": "b.png"}
IMAGES[2:5] = [None, {"bytes": None, "path": None}, {"bytes": b"", "path": None}]


@pytest.fixture
def write(tmp_path):
    def write(columns, name="data.parquet", **settings):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, tmp_path / name, version="2.6", **settings)
        return tmp_path / name

    return write


def read(path, columns=None):
    """Returns the rows, with a cache next to the table."""
    records = open_table(path, cache_dir=path.parent / "cache").records(columns)
    return [row for _, row in records]


def test_plain_columns_need_no_copy(write):
    path = write(
        {
            "text ": pa.array(["hi", None], pa.large_string()),
            "label": pa.array(["a", "b"]).dictionary_encode(),
            "tags": [["x", None, "y"], []],
            "time": pa.array([1_500, None], pa.timestamp("ns")),
            "price": pa.array([None, 150], pa.decimal128(5, 2)),
            "none": pa.nulls(2),
            "flag": [True, None],
        }
    )
    assert open_table(path).columns[0] == "text"
    first = {"text": "hi", "label": "a", "tags": ("x", "y"), "none": "", "price": ""}
    first |= {"time": "1970-01-01T00:00:00.000001", "flag": "true"}
    second = dict.fromkeys(first, "") | {"label": "b", "price": "150.00", "tags": ()}
    assert read(path) == [first, second]
    assert not (path.parent / "cache").exists()


def test_bytes_stay_in_a_file_until_they_are_read(write):
    path = write({"image": IMAGES, "n": list(range(600))}, row_group_size=100)
    rows = read(path)
    assert [rows[i]["image"] for i in (1, 2, 3)] == ["b.png", "", ""]
    cells = {i: row["image"] for i, row in enumerate(rows) if i not in (1, 2, 3)}
    assert all(isinstance(cell, Embedded) for cell in cells.values())
    order = random.Random(0).sample(sorted(cells), len(cells))
    assert all(cells[i].read() == IMAGES[i]["bytes"] for i in order)
    assert [row["n"] for row in rows] == [str(i) for i in range(600)]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([b"a", None], pa.binary(), b"a"),
        ([b"a", None], pa.large_binary(), b"a"),
        ([b"a", None], pa.binary(1), b"a"),
        ([b"a", None], pa.dictionary(pa.int32(), pa.binary()), b"a"),
        ([[b"a", b"b"], []], pa.list_(pa.binary()), (b"a", b"b")),
        (
            [[{"bytes": b"a", "path": "x"}, {"bytes": None, "path": "y"}], None],
            pa.list_(pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            (b"a", "y"),
        ),
    ],
)
def test_large_cells_are_embedded_and_absent_ones_are_not(
    write, values, kind, expected
):
    rows = read(write({"image": pa.array(values, kind)}))
    assert rows[0]["image"].read() == expected and not rows[1]["image"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.int8()),
    ],
)
def test_lists_of_numbers_are_embedded_vectors(write, kind):
    first, second = read(write({"text": pa.array([[3, 2], None], kind)}))
    vector = np.load(io.BytesIO(first["text"].read()))
    assert vector.dtype == "<f4" and list(vector) == [3, 2] and second["text"] == ""


def test_audio_as_an_array_is_an_embedded_wav(write):
    path = write({"audio": [{"array": [0.5] * 9, "sampling_rate": 8000}, None]})
    first, second = read(path)
    assert first["audio"].read().startswith(b"RIFF") and second["audio"] == ""


def test_only_used_columns_are_copied_and_only_once(write):
    path = write({"image": IMAGES, "raw": [b"x"] * 600, "text": ["hi"] * 600})
    cache = path.parent / "cache" / "tables"
    assert read(path, ["text"])[0] == {"text": "hi"} and not cache.exists()
    assert len(read(path, [])) == 600 and not cache.exists()
    read(path, ["image", "text"])
    (copy,) = cache.iterdir()
    assert pa.ipc.open_stream(copy).schema.names == ["image", "text"]
    time = copy.stat().st_mtime_ns
    read(path, ["image", "text"])
    assert copy.stat().st_mtime_ns == time
    path = write({"image": IMAGES[:9], "text": ["hi"] * 9})
    assert read(path, ["image", "text"])[0]["image"].read() == b"x0"
    assert len(list(cache.iterdir())) == 2


def test_a_sample_has_the_first_cells_without_a_copy(write):
    columns = {"image": IMAGES, "none": [None] * 600, "n": range(600)}
    columns |= {"vector": [[0.5, 1.0]] * 600, "raw": [None] * 300 + [b"x"] * 300}
    path = write(columns, row_group_size=50)
    table = open_table(path, cache_dir=path.parent / "cache")
    numbers, rows = zip(*table.sample(500), strict=True)
    assert numbers == tuple(range(500)) and tuple(rows[0]) == table.columns
    assert [row["n"] for row in rows] == [str(i) for i in range(500)]
    assert [rows[i]["image"] for i in (0, 1, 2, 400)] == [b"x0", "b.png", "", ""]
    assert [rows[i]["raw"] for i in (299, 300, 399, 400)] == ["", b"x", b"x", ""]
    assert list(np.load(io.BytesIO(rows[9]["vector"]))) == [0.5, 1]
    assert not (path.parent / "cache").exists()
    ((_, row),) = open_table(write({"image": [b"a"]}, "b.parquet")).sample(9)
    assert row == {"image": b"a"}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1], [0.5], ["1", "0.5"]),
        ([0.5], [1], ["0.5", "1"]),
        (pa.array([1], pa.int8()), [70_000], ["1", "70000"]),
        (pa.nulls(1), ["a"], ["", "a"]),
        (["a"], pa.array(["b"]).dictionary_encode(), ["a", "b"]),
    ],
)
def test_a_column_has_one_type_over_the_files_of_a_folder(
    write, first, second, expected
):
    write({"x": first}, "rows/0.parquet")
    path = write({"x": second}, "rows/1.parquet")
    assert [row["x"] for row in read(path.parent)] == expected


def test_a_type_that_does_not_fit_the_other_files_is_named(write):
    write({"text": ["a"], "x": [1]}, "rows/0.parquet")
    path = write({"text": ["a"], "x": ["b"]}, "rows/1.parquet")
    message = "1.parquet: column 'x' is of type string, and of type int64.*same type"
    with pytest.raises(UserError, match=message):
        read(path.parent)


def test_a_value_of_another_type_is_a_bad_cell(write):
    path = write({"text": ["hi", "ho"], "boxes": [[[1, 2]], None]})
    first, row = read(path)
    assert first["boxes"].reason.startswith("is a list of lists")
    assert first["text"] == "hi"
    assert row == {"text": "ho", "boxes": ""}


def test_class_numbers_of_the_schema_become_names(write):
    features = {
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
        "labels": {"feature": {"names": ["x", "y"], "_type": "ClassLabel"}},
        "text": {"dtype": "string", "_type": "Value"},
    }
    table = pa.table({"label": [1, -1, None], "labels": [[0, 1], [], None]})
    info = json.dumps({"info": {"features": features}})
    rows = read(write(table.replace_schema_metadata({"huggingface": info})))
    assert [row["label"] for row in rows] == ["dog", "", ""]
    assert [row["labels"] for row in rows] == [("x", "y"), (), ""]


def test_a_folder_of_files_is_one_table(write):
    write({"text": ["hi"], "image": [b"a"]}, "rows/0.parquet")
    path = write({"image": [None, b"c"], "text": ["ho", "hu"]}, "rows/1.parquet")
    table = open_table(path.parent, cache_dir=path.parent.parent)
    numbers, rows = zip(*table.records(), strict=True)
    assert numbers == (0, 1, 2) and [row["text"] for row in rows] == ["hi", "ho", "hu"]
    assert rows[0]["image"].read() == b"a" and rows[1]["image"] == ""
    assert table.folder == str(path.parent)
    first = table.fingerprint()
    write({"text": ["hi"]}, "rows/2.parquet")
    with pytest.raises(UserError, match="'2.parquet'.* both have 'image'. Keep"):
        open_table(path.parent)
    write({"text": ["hi"], "image": [b"a"]}, "rows/2.parquet")
    assert open_table(path.parent).fingerprint() != first


def test_a_remote_file_is_read(write, monkeypatch):
    data = write({"image": [b"a"]}).read_bytes()
    monkeypatch.setattr("mmkeras.data.tables.content.read_remote", lambda path: data)
    monkeypatch.setenv("XDG_CACHE_HOME", str(write({"a": [1]}).parent))
    ((_, row),) = open_table("gs://bucket/data.parquet").records()
    assert row["image"].read() == b"a"


def test_a_broken_file_is_refused(write):
    path = write({"text": ["hi"] * 99})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be read as Parquet.*anew"):
        open_table(path)
    write(pa.table([[1], [2]], names=["a", "a "]))
    with pytest.raises(UserError, match="several columns named 'a'"):
        open_table(path)


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5))
def test_all_formats_give_the_same_cells(tmp_path_factory, rows):
    names = ("text", "image; first, or | none", "label")
    expected = [dict(zip(names, row, strict=True)) for row in rows]
    folder, paths = tmp_path_factory.getbasetemp(), []
    for number, separator in enumerate(",;\t|"):
        paths.append(folder / f"{number}.csv")
        with paths[-1].open("w", newline="", encoding="utf-8") as file:
            quoting = {"quoting": csv.QUOTE_ALL, "delimiter": separator}
            csv.writer(file, **quoting).writerows([names, *rows])
    paths += [folder / "rows.jsonl", folder / "rows.parquet"]
    lines = "\n".join(map(json.dumps, expected))
    paths[-2].write_text(lines, encoding="utf-8")
    frame = pd.DataFrame(expected)
    frame.to_parquet(paths[-1])
    for source in (*paths, frame, expected, pa.table(frame)):
        table = open_table(source)
        assert table.columns == names
        assert [row for _, row in table.records()] == expected
