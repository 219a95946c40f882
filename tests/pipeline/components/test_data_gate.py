import json

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx import types
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from mmkeras.errors import UserError
from pipeline.components.artifacts import DataBlessing, MediaStatistics
from pipeline.components.data_gate import (
    DataGate,
    Executor,
    class_anomalies,
    media_anomalies,
    schema_anomalies,
)
from pipeline.components.schema_gen import edited_hash
from pipeline.settings import ChecksConfig
from tests.pipeline import executor_harness


def media(silent=0.0, clipped=0.0):
    sounds = {"silent_share": silent, "clipped_share": clipped}
    return {"splits": {"train": {"sounds": sounds}, "test": {"sounds": {}}}}


def statistics_of(**columns):
    return tfdv.generate_statistics_from_dataframe(pd.DataFrame(columns))


@pytest.fixture(scope="module")
def schema():
    """Of rows with a label and mostly a text."""
    good = statistics_of(label=["cat", "dog"] * 50, text=["x"] * 90 + [None] * 10)
    schema = tfdv.infer_schema(good, infer_feature_shape=False)
    tfdv.get_feature(schema, "text").presence.min_fraction = 0.8
    return schema


def anomalies_of(schema, **columns):
    return tfdv.validate_statistics(statistics_of(**columns), schema)


@pytest.fixture
def passes(tmp_path, schema):
    """Runs the gate on anomalies by split; returns the content of passed.json."""

    def run(by_split, media_statistics=None, checks="{}", schema_file="", labels=None):
        examples = executor_harness.artifact(
            standard_artifacts.Examples, tmp_path / "examples"
        )
        content = json.dumps({"labels": labels or {}, "fingerprint": "abc"})
        (tmp_path / "examples" / "ingested.json").write_text(content)
        anomalies = executor_harness.artifact(
            standard_artifacts.ExampleAnomalies, tmp_path / "anomalies"
        )
        anomalies.split_names = artifact_utils.encode_split_names(list(by_split))
        for split, found in by_split.items():
            path = tmp_path / "anomalies" / f"Split-{split}" / "SchemaDiff.pb"
            io_utils.write_bytes_file(str(path), found.SerializeToString())
        statistics = executor_harness.artifact(MediaStatistics, tmp_path / "media")
        content = json.dumps(media_statistics or media())
        (tmp_path / "media" / "media_statistics.json").write_text(content)
        kept = executor_harness.artifact(standard_artifacts.Schema, tmp_path / "schema")
        io_utils.write_pbtxt_file(str(tmp_path / "schema" / "schema.pbtxt"), schema)
        blessing = executor_harness.artifact(DataBlessing, tmp_path / "blessing")
        Executor(executor_harness.context(tmp_path)).Do(
            {
                "examples": [examples],
                "anomalies": [anomalies],
                "media_statistics": [statistics],
                "schema": [kept],
            },
            {"blessing": [blessing]},
            {"checks": checks, "schema_file": schema_file, "code": ""},
        )
        return json.loads((tmp_path / "blessing" / "passed.json").read_text())

    return run


NONE = anomalies_pb2.Anomalies()


def test_too_many_silent_sounds_are_an_anomaly():
    assert media_anomalies(media(silent=0.62), ChecksConfig()) == [
        "audio: 62 % of the sounds in train are silent throughout "
        "(checks.max_silent_share=0.5)"
    ]
    assert media_anomalies(media(silent=0.5), ChecksConfig()) == []


def test_too_many_clipped_sounds_are_an_anomaly():
    checks = ChecksConfig(max_clipped_share=0.01)
    assert media_anomalies(media(clipped=0.0123, silent=0.2), checks) == [
        "audio: 1.23 % of the sounds in train are clipped "
        "(checks.max_clipped_share=0.01)"
    ]


def test_a_class_that_the_schema_does_not_list_is_named_with_its_share(schema):
    labels = ["goat"] * 12 + ["emu"] * 3 + ["dog"] * 985
    found = anomalies_of(schema, label=labels, text=["x"] * 1000)
    assert schema_anomalies(found, "val") == [
        "label in val: values that the schema does not list: "
        "emu (under 1 % of the rows), goat (1 % of the rows)"
    ]


def test_a_modality_that_is_too_often_absent_is_said_in_shares(schema):
    found = anomalies_of(
        schema, label=["cat", "dog"] * 50, text=["x"] * 40 + [None] * 60
    )
    assert schema_anomalies(found, "train") == [
        "text in train: too often absent: in 40 % of the rows, where the schema asks "
        "for 80 %"
    ]


def test_each_way_in_which_a_split_differs_has_its_line(schema):
    found = anomalies_of(schema, label=[1, 2] * 50, other=["x"] * 100)
    assert schema_anomalies(found, "test") == [
        "label in test: unexpected data type: Expected data of type: BYTES but got INT",
        "other in test: a feature that the schema does not know",
        "text in test: absent in all rows",
    ]


def test_what_is_wrong_with_a_whole_split_is_said():
    found = anomalies_pb2.Anomalies(data_missing=True)
    found.dataset_anomaly_info.short_description = "Low num examples in dataset."
    found.dataset_anomaly_info.description = "Fewer than\n 5.  "
    found.anomaly_info["x"].description = "Odd."
    assert schema_anomalies(found, "val") == [
        "no rows in val",
        "rows of val: low num examples in dataset.: Fewer than 5",
        "x in val: Odd",
    ]


def test_rows_that_are_as_they_must_be_pass(passes):
    assert passes({"train": NONE, "val": NONE}, checks='{"max_silent_share": 0.1}') == {
        "splits": ["train", "val"],
        "checks": {"max_silent_share": 0.1},
    }


def test_the_schema_of_rows_that_have_passed_is_kept(passes, tmp_path, schema):
    kept = tmp_path / "kept" / "schema.pbtxt"
    passes({"train": NONE}, schema_file=str(kept))
    assert io_utils.parse_pbtxt_file(str(kept), schema_pb2.Schema()) == schema
    assert edited_hash(str(kept), "abc") == ""


def test_all_that_is_wrong_is_in_one_message(passes, tmp_path, schema):
    goats = anomalies_of(schema, label=["goat"] * 100, text=["x"] * 100)
    kept = tmp_path / "kept.pbtxt"

    with pytest.raises(UserError) as caught:
        passes({"train": NONE, "val": goats}, media(silent=1.0), "{}", str(kept))

    message = str(caught.value)
    assert message.startswith("The data do not pass 2 checks:\n  label in val: ")
    assert "goat (100 % of the rows)" in message
    assert "audio: 100 % of the sounds in train are silent" in message
    assert f"{tmp_path}/media/media_statistics.html" in message
    assert f"{tmp_path}/anomalies" in message and f"edit {kept}" in message
    assert not kept.exists() and not (tmp_path / "blessing" / "passed.json").exists()


def test_a_new_class_of_rows_with_several_labels_is_named(passes, schema):
    seen = {"train": {"cat|dog": 3, "cat": 2}, "val": {"dog|goat": 1}}
    assert passes({"train": NONE}, labels=seen)  # TFDV holds single labels against it
    schema = schema_pb2.Schema.FromString(schema.SerializeToString())
    tfdv.get_feature(schema, "label").ClearField("domain_info")
    assert class_anomalies(schema, {"labels": seen}) == [
        "label in val: classes that the schema does not list: goat"
    ]


def test_a_long_list_is_cut(passes):
    found = anomalies_pb2.Anomalies()
    for i in range(50):
        found.anomaly_info[f"x{i:02d}"].description = "Odd."
    with pytest.raises(UserError, match="50 checks") as caught:
        passes({"train": found})
    assert "x29" in str(caught.value) and "x30" not in str(caught.value)
    assert "... and 20 more" in str(caught.value)


def test_the_checks_are_those_of_the_settings(passes):
    assert passes({"train": NONE}, media(silent=0.6), '{"max_silent_share": 0.7}')
    with pytest.raises(UserError, match="checks.max_silent_share=0.5.*"):
        passes({"train": NONE}, media(silent=0.6))


def test_the_component_waits_for_the_schema_and_both_statistics():
    channels = {
        "examples": types.Channel(type=standard_artifacts.Examples),
        "anomalies": types.Channel(type=standard_artifacts.ExampleAnomalies),
        "media_statistics": types.Channel(type=MediaStatistics),
        "schema": types.Channel(type=standard_artifacts.Schema),
    }
    gate = DataGate(**channels, schema_file="/s", checks="{}", code="1")
    assert set(gate.inputs) == set(channels)
    assert gate.outputs["blessing"].type is DataBlessing
    assert gate.exec_properties == {"checks": "{}", "schema_file": "/s", "code": "1"}
