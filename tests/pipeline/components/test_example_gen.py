import csv
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from tfx.types import standard_artifacts

from mmkeras.data.dataset import load_dataset
from mmkeras.data.ingest import ingest
from mmkeras.errors import UserError
from tests import table_factory
from tests.pipeline import executor_harness
from tests.pipeline.executor_harness import stored_records


def without_folder(dataset):
    return {k: v for k, v in asdict(dataset).items() if k != "folder"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.getbasetemp() / "small"


def test_the_examples_equal_those_of_ingest_byte_for_byte(base):
    table, config, examples = executor_harness.small(base)
    plain, piped = ingest(table, config), load_dataset(examples.uri)
    assert stored_records(piped) == stored_records(plain)
    assert without_folder(piped) == without_folder(plain)


def test_many_shards_hold_the_same_rows_in_the_same_order(base, tmp_path):
    table, config, examples = executor_harness.small(base)
    small_shards = replace(config, table=replace(config.table, rows_per_shard=5))
    many, _ = executor_harness.examples_of(table, small_shards, tmp_path)
    many, one = load_dataset(many.uri), load_dataset(examples.uri)
    assert [len(shards) for shards in many.shards.values()] == [5, 2, 2]
    assert stored_records(many) == stored_records(one)


def test_groups_are_split_as_by_ingest(tmp_path):
    rows = [
        {"text": f"word {i}", "label": "ab"[i % 2], "group": f"g{i // 4}"}
        for i in range(40)
    ]
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    config = table_factory.tiny_config(tmp_path)
    examples, _ = executor_harness.examples_of(table, config, tmp_path)
    records = stored_records(load_dataset(examples.uri))
    assert records == stored_records(ingest(table, config)) and all(records.values())


@pytest.fixture
def bad_table(tmp_path):
    rows = table_factory.make_rows()
    rows[2]["image"], rows[5]["label"] = "gone.png", ""
    return table_factory.write_table(tmp_path / "data" / "data.csv", rows)


def test_bad_rows_raise_the_error_of_ingest(bad_table, tmp_path):
    config = table_factory.tiny_config(tmp_path / "cache", on_bad_row="fail")
    with pytest.raises(UserError) as plain:
        ingest(bad_table, config)
    with pytest.raises(UserError) as piped:
        executor_harness.examples_of(bad_table, config, tmp_path)
    assert str(piped.value) == str(plain.value)
    assert "line 4 (id r02): image 'gone.png': file not found" in str(piped.value)


def test_rejected_rows_become_an_artifact(bad_table, tmp_path):
    config = table_factory.tiny_config(tmp_path / "cache", on_bad_row="reject")
    examples, rejected = executor_harness.examples_of(bad_table, config, tmp_path)
    with (Path(rejected.uri) / "rejected.csv").open(newline="") as file:
        assert [row["line"] for row in csv.DictReader(file)] == ["4", "7"]
    assert rejected.get_int_custom_property("rows") == 2
    assert examples.get_int_custom_property("rows_train") == 22


def test_an_unlabeled_table_is_read_with_the_settings_of_the_model(
    tmp_path, tmp_path_factory
):
    folder, _ = table_factory.trained_run(tmp_path_factory)
    run = executor_harness.artifact(standard_artifacts.ModelRun, folder)
    rows = [
        {"text": "warm fire", "image": table_factory.image(), "audio": ""},
        {"text": "", "image": "", "audio": ""},
    ]
    table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
    config = table_factory.tiny_config(tmp_path / "cache", audio={"rate_hz": 44_100})
    examples, _ = executor_harness.examples_of(table, config, tmp_path, model_run=[run])
    dataset = load_dataset(examples.uri)
    assert dataset.rows == {"train": 0, "val": 0, "test": 2}
    assert examples.split_names == '["test"]'


def test_an_unlabeled_table_without_a_column_of_the_model_is_refused(
    tmp_path, tmp_path_factory
):
    folder, _ = table_factory.trained_run(tmp_path_factory)
    run = executor_harness.artifact(standard_artifacts.ModelRun, folder)
    rows = [{"text": "warm fire", "img": table_factory.image(), "audio": ""}]
    table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
    config = table_factory.tiny_config(tmp_path / "cache")
    with pytest.raises(UserError, match="lacks the column 'image' .*mean 'img'"):
        executor_harness.examples_of(table, config, tmp_path, model_run=[run])
