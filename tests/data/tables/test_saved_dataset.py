import json

import pyarrow as pa
import pytest

from mmkeras.data.tables import open_table
from mmkeras.errors import UserError

FEATURES = {
    "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
    "image": {"_type": "Image"},
}
KIND = pa.struct({"bytes": pa.binary(), "path": pa.string()})


def save(folder, *shards, features=FEATURES):
    """Writes shards of columns as `Dataset.save_to_disk` of Hugging Face does."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{len(shards):05}.arrow" for i in range(len(shards))]
    for name, columns in zip(names, shards, strict=True):
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        with pa.OSFile(str(folder / name), "wb") as file:
            with pa.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))


def images(*values):
    return pa.array([{"bytes": value, "path": "x.png"} for value in values], KIND)


def test_shards_are_one_table_with_class_names_and_embedded_images(tmp_path):
    shards = [
        {"label": [1, 0, -1], "image": images(b"a", b"b", None)},
        {"label": [0], "image": images(b"d")},
    ]
    save(tmp_path / "data", *shards)
    table = open_table(tmp_path / "data")
    numbers, rows = zip(*table.records(), strict=True)
    assert numbers == (0, 1, 2, 3) and table.columns == ("label", "image")
    assert [row["label"] for row in rows] == ["dog", "cat", "", "cat"]
    assert [rows[i]["image"].read() for i in (3, 0, 1)] == [b"d", b"a", b"b"]
    assert rows[2]["image"] == "x.png"
    assert len(list(table.records([]))) == 4


def test_splits_are_a_column(tmp_path):
    save(tmp_path / "train", {"label": [1], "image": images(b"a")})
    other = {"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}
    save(tmp_path / "test", {"label": [1], "text": ["hi"]}, features=other)
    splits = json.dumps({"splits": ["train", "test"]})
    (tmp_path / "dataset_dict.json").write_text(splits)
    table = open_table(tmp_path)
    assert table.columns == ("label", "image", "text", "split")
    (_, first), (number, second) = table.records()
    assert first.pop("image").read() == b"a"
    assert first == {"label": "dog", "text": "", "split": "train"}
    expected = {"label": "cat", "image": "", "text": "hi", "split": "test"}
    assert (number, second) == (1, expected)
    assert [row for _, row in table.records(["text"])] == [{"text": ""}, {"text": "hi"}]


def test_the_fingerprint_depends_on_the_shards(tmp_path):
    save(tmp_path / "a", {"label": [1]})
    first = open_table(tmp_path / "a").fingerprint()
    assert open_table(tmp_path / "a").fingerprint() == first
    save(tmp_path / "b", {"label": [1, 0, 1]})
    assert open_table(tmp_path / "b").fingerprint() != first


def test_a_broken_dataset_is_refused(tmp_path):
    folder = tmp_path / "data"
    save(folder, {"label": [1]})
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="dataset_info.json is not JSON.*anew"):
        open_table(folder)
    (folder / "dataset_info.json").write_text("{}")
    (folder / "data-00000-of-00001.arrow").write_bytes(b"broken, broken")
    with pytest.raises(UserError, match="cannot be read as a Hugging Face"):
        open_table(folder)
    (folder / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(UserError, match="data-00000-of-00001.arrow is no file.*anew"):
        open_table(folder)
    (folder / "state.json").write_text('{"_data_files": []}')
    with pytest.raises(UserError, match="has no rows. Save a dataset"):
        open_table(folder)


@pytest.mark.parametrize("content", ["{}", "[]", '{"splits": 1, "_data_files": 1}'])
@pytest.mark.parametrize("file", ["state.json", "dataset_dict.json"])
def test_a_file_without_its_list_is_named(tmp_path, file, content):
    save(tmp_path / "data", {"label": [1]})
    (tmp_path / "data" / file).write_text(content)
    with pytest.raises(UserError, match=f"{file} has no list '.*Save the dataset anew"):
        open_table(tmp_path / "data")


@pytest.mark.parametrize("content", [None, "{}", "[]"])
def test_the_features_of_the_schema_serve_where_the_file_has_none(tmp_path, content):
    info = json.dumps({"info": {"features": FEATURES}})
    columns = pa.table({"label": [1]}).replace_schema_metadata({"huggingface": info})
    save(tmp_path / "data", columns)
    (tmp_path / "data" / "dataset_info.json").unlink()
    if content:
        (tmp_path / "data" / "dataset_info.json").write_text(content)
    ((_, row),) = open_table(tmp_path / "data").records()
    assert row == {"label": "dog"}
