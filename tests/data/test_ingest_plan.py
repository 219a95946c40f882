import json
import os

import pytest
import tensorflow as tf

from mmkeras.data.ingest_plan import plan_ingest
from mmkeras.errors import UserError
from mmkeras.modalities.audio import column as audio_column
from mmkeras.modalities.image import column as image_column
from mmkeras.modalities.image import heif
from tests.table_factory import FORTY, tiny_config, vector, write_table

TEXTS = [
    {"id": f"r{i:02d}", "label": "ab"[i % 2], "text": f"word {i}"} for i in range(40)
]


@pytest.fixture
def table(tmp_path):
    return write_table(tmp_path / "data.csv", TEXTS)


def rows_of(plan, split):
    """Ids of the rows of each shard."""
    return [[row.id for row in s.rows] for s in plan.shards if s.split == split]


def test_every_row_is_in_one_shard_of_bounded_size(table, tmp_path):
    plan = plan_ingest(table, tiny_config(tmp_path, table={"rows_per_shard": 10}))
    assert [(s.name, s.split) for s in plan.shards] == [
        ("Split-train/00000.tfrecord", "train"),
        ("Split-train/00001.tfrecord", "train"),
        ("Split-train/00002.tfrecord", "train"),
        ("Split-val/00000.tfrecord", "val"),
        ("Split-test/00000.tfrecord", "test"),
    ]
    assert max(len(s.rows) for s in plan.shards) == 10
    ids = [row.id for s in plan.shards for row in s.rows]
    assert sorted(ids) == [row["id"] for row in TEXTS] and plan.rows == 40


def test_the_rows_of_a_fold_are_test_and_the_split_column_is_ignored(tmp_path):
    rows = [{**row, "split": "train", "group": row["id"][:2]} for row in TEXTS]
    rows[3]["split"] = ""
    rows[7]["split"] = "holdout"
    table = write_table(tmp_path / "data.csv", rows)
    tested, fingerprints = [], set()
    for fold in (1, 2):
        config = tiny_config(tmp_path, table={"folds": 2, "fold": fold})
        plan = plan_ingest(table, config)
        (ids,) = rows_of(plan, "test")
        assert not plan.rejected and len({name[:2] for name in ids}) == 2
        tested += ids
        fingerprints.add(plan.fingerprint)
    assert sorted(tested) == [row["id"] for row in TEXTS] and len(fingerprints) == 2


def test_the_folds_of_the_training_table_do_not_divide_another_table(tmp_path):
    rows = [{**row, "split": ("train", "test")[i % 2]} for i, row in enumerate(TEXTS)]
    table = write_table(tmp_path / "data.csv", rows)
    config = tiny_config(tmp_path, table={"folds": 4, "fold": 3})
    plan = plan_ingest(table, config, only="test")
    assert rows_of(plan, "test") == [[row["id"] for row in rows[1::2]]]


def test_a_table_without_labels_becomes_test_rows(tmp_path):
    rows = [{"text": f"word {i}", "split": "train"} for i in range(3)]
    table = write_table(tmp_path / "data.csv", [*rows, {"text": ""}])
    config = tiny_config(tmp_path)
    with pytest.raises(UserError, match="no column 'label'"):
        plan_ingest(table, config)
    plan = plan_ingest(table, config, only="test", labeled=False)
    assert rows_of(plan, "test") == [["0", "1", "2", "3"]]


def test_a_remote_table_is_planned_as_the_same_local_one(table, tmp_path):
    uri = "ram://bucket/data.csv"
    with tf.io.gfile.GFile(uri, "wb") as file:
        file.write(table.read_bytes())
    config = tiny_config(tmp_path)
    local, remote = plan_ingest(table, config), plan_ingest(uri, config)
    assert remote.folder == "ram://bucket"
    assert local.split_fingerprint == remote.split_fingerprint
    assert local.shards == remote.shards
    with pytest.raises(UserError, match="ram://nowhere/x.csv does not exist"):
        plan_ingest("ram://nowhere/x.csv", config)


def test_training_rows_are_shuffled_and_the_others_as_in_the_table(tmp_path):
    labels = ["a"] * 12 + ["b"] * 12 + ["a", "b"] * 8
    rows = [
        {**row, "label": label, "split": split}
        for row, label, split in zip(TEXTS, labels, FORTY, strict=True)
    ]
    plan = plan_ingest(write_table(tmp_path / "d.csv", rows), tiny_config(tmp_path))
    ids = [row["id"] for row in TEXTS]
    (train,), (val,), (test,) = (rows_of(plan, s) for s in ("train", "val", "test"))
    assert sorted(train) == ids[:24] and train != ids[:24]
    assert (val, test) == (ids[24:32], ids[32:])
    by_id = {row["id"]: row["label"] for row in rows}
    assert "a" * 12 not in "".join(by_id[row_id] for row_id in train)


def test_rows_that_leave_one_class_are_listed_with_the_refusal(tmp_path):
    rows = [{**row, "label": "red" if i != 3 else ""} for i, row in enumerate(TEXTS)]
    table = write_table(tmp_path / "data.csv", rows)
    with pytest.raises(UserError, match=r"(?s)two classes.*1 of 40 rows.*line 5 "):
        plan_ingest(table, tiny_config(tmp_path))


def test_repeated_ids_are_the_only_reason_where_they_leave_one_class(tmp_path):
    rows = [{**row, "id": "same"} for row in TEXTS]
    table = write_table(tmp_path / "data.csv", rows)
    for on_bad_row in ("fail", "reject"):
        with pytest.raises(UserError) as error:
            plan_ingest(table, tiny_config(tmp_path, on_bad_row=on_bad_row))
        first, *lines = str(error.value).splitlines()
        assert first.endswith("one class only; training needs two. Correct these rows:")
        assert lines[0] == "  line 3 (id same): id 'same' is already that of line 2"
        assert len(lines) == 21 and lines[-1] == "  ... and 19 more"
        assert "label" not in str(error.value)


def test_for_evaluation_the_rows_of_one_split_become_test_rows(tmp_path):
    rows = [{**row, "split": split} for row, split in zip(TEXTS, FORTY, strict=True)]
    config = tiny_config(tmp_path)
    plan = plan_ingest(write_table(tmp_path / "d.csv", rows), config, only="val")
    assert rows_of(plan, "test") == [[row["id"] for row in rows[24:32]]]
    assert not rows_of(plan, "train") and not rows_of(plan, "val")
    table = write_table(tmp_path / "train.csv", rows[:24])
    with pytest.raises(UserError, match="no row of the split test"):
        plan_ingest(table, config, only="test")
    one_class = [{"text": "hi", "label": "a"}] * 3  # and without splits
    plan = plan_ingest(write_table(tmp_path / "e.csv", one_class), config, only="test")
    assert rows_of(plan, "test") == [["0", "1", "2"]]


MEDIA = [{**row, "image": "a.png", "audio": "a.wav"} for row in TEXTS]


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        ({"epochs": 9, "text": {"encoder": "lstm"}}, True),
        ({"table": {"workers": 9}}, True),
        ({"table": {"rows_per_shard": 7}}, False),
        ({"on_bad_row": "reject"}, False),
        ({"seed": 2}, False),
        ({"audio": {"clip_s": 1.0}}, False),
        ({"image": {"max_megapixels": 9}}, False),
    ],
)
def test_the_fingerprint_depends_on_record_settings(changes, is_same, tmp_path):
    table = write_table(tmp_path / "data.csv", MEDIA)
    before = plan_ingest(table, tiny_config(tmp_path))
    after = plan_ingest(table, tiny_config(tmp_path, **changes))
    assert (before.fingerprint == after.fingerprint) == is_same
    assert (before.split_fingerprint == after.split_fingerprint) == (
        "seed" not in changes
    )


def test_the_fingerprint_depends_on_the_content_of_files(tmp_path):
    rows = [{**row, "audio": vector([i, 1])} for i, row in enumerate(TEXTS)]
    table = write_table(tmp_path / "data.csv", rows)
    before = plan_ingest(table, tiny_config(tmp_path)).fingerprint
    assert plan_ingest(table, tiny_config(tmp_path)).fingerprint == before
    file = tmp_path / "003-audio.npy"
    status = file.stat()
    file.write_bytes(vector([9, 9]))  # as many bytes, and the old time
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert plan_ingest(table, tiny_config(tmp_path)).fingerprint != before


def test_the_fingerprint_depends_on_every_file_of_a_cell(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.npy").write_bytes(vector([1, 2]))
    paths = ["a.npy;b.npy", ["c.npy", "d.npy"]]
    rows = [{"label": "xy"[i % 2], "v": paths[i % 2]} for i in range(40)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    fingerprints = set()
    for name in "abcd":
        plan = plan_ingest(tmp_path / "data.jsonl", tiny_config(tmp_path))
        assert plan.config.columns["v"]["items"] == 2
        fingerprints.add(plan.fingerprint)
        (tmp_path / f"{name}.npy").write_bytes(vector([9, 9]))
    assert len(fingerprints) == 4


@pytest.mark.parametrize("decoder", ["av", "pillow_heif", "AVIF"])
def test_the_fingerprint_depends_on_the_decoders(decoder, tmp_path, monkeypatch):
    """So that rows that could not be read are read again after an installation."""
    table = write_table(tmp_path / "data.csv", MEDIA)
    others = {"av", "pillow_heif", "AVIF"} - {decoder}
    spec = {name: name for name in others}
    fingerprints = set()
    for specs in (spec, {**spec, decoder: decoder}):
        for module in (image_column, audio_column):
            monkeypatch.setattr(module, "find_spec", specs.get)
        monkeypatch.setattr(heif, "can_open_avif", lambda s=specs: "AVIF" in s)
        fingerprints.add(plan_ingest(table, tiny_config(tmp_path)).fingerprint)
    assert len(fingerprints) == 2
