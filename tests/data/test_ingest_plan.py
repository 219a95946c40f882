from dataclasses import replace

import pytest
import tensorflow as tf

from mmkeras.data import ingest_plan
from mmkeras.data.ingest_plan import plan_ingest
from mmkeras.data.table import read_rows
from mmkeras.errors import UserError
from tests import table_factory


def texts(count=40):
    """Rows of text only."""
    return [
        {"id": f"r{i:02d}", "label": "ab"[i % 2], "text": f"word {i}"}
        for i in range(count)
    ]


def shard_rows(made, split):
    return [[row.id for row in s.rows] for s in made.shards if s.split == split]


def test_every_row_stands_in_one_shard_of_bounded_size(tmp_path):
    table = table_factory.write_table(tmp_path / "data.csv", texts())
    made = plan_ingest(
        table, table_factory.tiny_config(tmp_path, table={"rows_per_shard": 10})
    )
    assert [s.name for s in made.shards] == [
        "Split-train/00000.tfrecord",
        "Split-train/00001.tfrecord",
        "Split-train/00002.tfrecord",
        "Split-val/00000.tfrecord",
        "Split-test/00000.tfrecord",
    ]
    assert max(len(s.rows) for s in made.shards) == 10
    ids = [row.id for s in made.shards for row in s.rows]
    assert sorted(ids) == [f"r{i:02d}" for i in range(40)] and made.rows == 40


def test_the_rows_of_a_fold_are_test_whatever_the_split_column_says(tmp_path):
    rows = [{**row, "split": "train", "group": row["id"][:2]} for row in texts()]
    rows[3]["split"] = ""
    rows[7]["split"] = "holdout"
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    tested, keys = [], set()
    for fold in (1, 2):
        config = table_factory.tiny_config(tmp_path, table={"folds": 2, "fold": fold})
        made = plan_ingest(table, config)
        (ids,) = shard_rows(made, "test")
        assert not made.rejected and len({name[:2] for name in ids}) == 2
        tested += ids
        keys.add(made.fingerprint)
    assert sorted(tested) == [row["id"] for row in rows] and len(keys) == 2


def test_another_table_knows_nothing_of_the_folds_of_the_one_trained_on(tmp_path):
    splits = ["train", "test"] * 20
    rows = [{**r, "split": s} for r, s in zip(texts(), splits, strict=True)]
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    config = table_factory.tiny_config(tmp_path, table={"folds": 4, "fold": 3})
    (ids,) = shard_rows(plan_ingest(table, config, only="test"), "test")
    assert ids == [row["id"] for row in rows[1::2]]


def test_a_table_without_labels_becomes_test_rows(tmp_path):
    rows = [{"text": f"word {i}", "split": "train"} for i in range(3)]
    table = table_factory.write_table(tmp_path / "data.csv", [*rows, {"text": ""}])
    config = table_factory.tiny_config(tmp_path)
    with pytest.raises(UserError, match="no column 'label'"):
        plan_ingest(table, config)
    made = plan_ingest(table, config, only="test", labeled=False)
    assert shard_rows(made, "test") == [["0", "1", "2", "3"]]


def test_a_table_behind_a_uri_is_planned_as_the_same_local_one(tmp_path):
    local = table_factory.write_table(tmp_path / "data.csv", texts())
    uri = "ram://bucket/data.csv"
    with tf.io.gfile.GFile(uri, "wb") as file:
        file.write(local.read_bytes())
    config = table_factory.tiny_config(tmp_path)
    here, there = plan_ingest(local, config), plan_ingest(uri, config)
    assert there.folder == "ram://bucket"
    assert here.split_fingerprint == there.split_fingerprint
    assert here.shards == there.shards


def test_a_uri_that_is_not_there_is_said_in_one_line(tmp_path):
    with pytest.raises(UserError, match="ram://nowhere/x.csv is not there"):
        plan_ingest("ram://nowhere/x.csv", table_factory.tiny_config(tmp_path))


def test_the_fingerprint_knows_the_settings_that_change_records(tmp_path):
    table = table_factory.write_table(tmp_path / "data.csv", texts())
    config = table_factory.tiny_config(tmp_path)
    rows = read_rows(table, config.table)

    def key(**changes):
        changed = table_factory.tiny_config(tmp_path, **changes)
        return ingest_plan._fingerprint(table, rows, ["test"] * len(rows), {}, changed)

    assert key(epochs=9) == key(table={"workers": 9}) == key()
    assert (
        len({key(), key(audio={"clip_s": 1.0}), key(image={"max_megapixels": 9})}) == 3
    )
    assert replace(config, epochs=9) != config
