import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tfx.types import standard_artifacts

from mmkeras.config import Config
from mmkeras.modalities.columns import build_columns
from pipeline.components import schema_gen
from pipeline.components.schema_gen import edited_hash, infer_schema, keep_schema
from pipeline.components.statistics_gen import read_statistics
from tests import table_factory
from tests.pipeline import executor_harness

COLUMNS = build_columns(Config())  # text, image and audio


def statistics_of(rows, folder):
    table = table_factory.write_table(folder / "data" / "data.csv", rows)
    config = table_factory.tiny_config(folder / "cache")
    examples, _ = executor_harness.examples_of(table, config, folder)
    return read_statistics(executor_harness.statistics_of(examples, folder))


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    rows = table_factory.make_rows()
    for row in rows[::4]:
        row["audio"] = ""
    return statistics_of(rows, tmp_path_factory.mktemp("statistics"))


@pytest.fixture(scope="module")
def drifted(tmp_path_factory):
    rows = table_factory.make_rows(classes=("red", "green", "blue"))
    for row in rows[::2]:
        row["image"] = ""
    return statistics_of(rows, tmp_path_factory.mktemp("drifted"))


def anomalies(statistics, schema):
    result = tfdv.validate_statistics(statistics["train"], schema)
    return {name: a.short_description for name, a in result.anomaly_info.items()}


def test_the_rows_of_a_schema_have_no_anomalies(statistics):
    schema = infer_schema(statistics, COLUMNS, slack=0.2)
    for split in statistics:
        assert anomalies({"train": statistics[split]}, schema) == {}


def test_classes_are_listed_and_texts_are_unrestricted(statistics):
    schema = infer_schema(statistics, COLUMNS, slack=0.2)
    domains = {d.name: sorted(d.value) for d in schema.string_domain}
    assert domains == {"label": ["green", "red"], "split": ["test", "train", "val"]}
    minimum = {f.name: f.presence.min_fraction for f in schema.feature if f.presence}
    assert minimum["image"] == minimum["text"] == pytest.approx(0.8)
    assert minimum["audio"] == pytest.approx(0.55)  # a quarter is absent


def test_a_new_label_and_a_modality_gone_are_anomalies(statistics, drifted):
    result = anomalies(drifted, infer_schema(statistics, COLUMNS, slack=0.2))
    assert set(result) == {"label", "image"}
    assert result["label"] == "Unexpected string values"
    assert anomalies(drifted, infer_schema(statistics, COLUMNS, slack=0.5)).keys() == {
        "label"
    }


def test_the_single_classes_of_several_labels_are_listed():
    frame = pd.DataFrame({"label": ["a|b", "a"] * 10, "split": ["train"] * 20})
    statistics = {"train": tfdv.generate_statistics_from_dataframe(frame)}
    schema = infer_schema(statistics, COLUMNS, slack=0.2)
    domains = {d.name: list(d.value) for d in schema.string_domain}
    assert domains == {"label": ["a", "b"], "split": ["train"]}
    assert tfdv.validate_statistics(statistics["train"], schema).anomaly_info == {}
    other = pd.DataFrame({"label": ["b|a", "b"] * 10, "split": ["train"] * 20})
    other = tfdv.generate_statistics_from_dataframe(other)
    assert tfdv.validate_statistics(other, schema).anomaly_info == {}
    assert schema_gen.unknown_classes(schema, ["b|a", "c|a", "b"]) == ["c"]


def test_a_saved_schema_counts_as_edited_only_after_an_edit(statistics, tmp_path):
    path = str(tmp_path / "schema" / "schema.pbtxt")
    assert edited_hash(path, "abc") == ""
    schema = infer_schema(statistics, COLUMNS, slack=0.2)
    keep_schema(schema, path, "abc")
    assert edited_hash(path, "abc") == ""
    other_rows = edited_hash(path, "def")
    text = (tmp_path / "schema" / "schema.pbtxt").read_text()
    (tmp_path / "schema" / "schema.pbtxt").write_text(text.replace("red", "pink"))
    edited = edited_hash(path, "abc")
    assert edited and other_rows and edited != other_rows
    keep_schema(schema, path, "abc")  # an edited file is never overwritten
    assert edited_hash(path, "abc") == edited


def test_a_modality_missing_in_one_split_is_still_checked(statistics):
    def frame(audio):
        columns = {"label": ["a"] * 20, "split": ["train"] * 20, "audio": audio}
        return tfdv.generate_statistics_from_dataframe(pd.DataFrame(columns))

    some, none = frame(["x"] * 8 + [None] * 12), frame([None] * 20)
    schema = infer_schema({"train": some, "test": none}, COLUMNS, slack=0.2)
    audio = tfdv.get_feature(schema, "audio")
    assert audio.lifecycle_stage == 0 and audio.presence.min_fraction == 0
    for split in (some, none):
        assert anomalies({"train": split}, schema) == {}
    schema = infer_schema({"train": some, "test": some}, COLUMNS, slack=0.2)
    assert set(anomalies({"train": none}, schema)) == {"audio"}


def test_a_schema_file_is_copied(tmp_path, statistics):
    path = str(tmp_path / "schema.pbtxt")
    keep_schema(infer_schema(statistics, COLUMNS, slack=0.3), path, "abc")
    schema = executor_harness.artifact(standard_artifacts.Schema, tmp_path / "made")
    schema_gen.Executor().Do(
        {}, {"schema": [schema]}, {"schema_file": path, "presence_slack": 0.0}
    )
    copy = tfdv.load_schema_text(str(tmp_path / "made" / "schema.pbtxt"))
    assert copy == tfdv.load_schema_text(path)
