import json
import re

import pandas as pd
import pytest
import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from mmkeras.config import Config
from mmkeras.errors import UserError
from mmkeras.modalities.columns import build_columns
from pipeline.components.artifacts import DataBlessing, MediaStatistics
from pipeline.components.data_gate import (
    Executor,
    class_anomalies,
    media_anomalies,
    schema_anomalies,
)
from pipeline.components.media_statistics import describe_columns
from pipeline.components.schema_gen import edited_hash
from pipeline.settings import ChecksConfig
from tests.pipeline import executor_harness


def media(silent=0.0, clipped=0.0):
    """Statistics of audio, in two columns, of which one has faults."""
    columns = {"audio": "audio", "sound": "audio"}
    columns = describe_columns(build_columns(Config(columns=columns)))
    faults = {"audio_silent": {"rows": 9, "share": silent}}
    faults["audio_clipped"] = {"rows": 9, "share": clipped}
    splits = {"train": {"faults": faults}, "test": {"faults": {}}}
    return {"columns": columns, "splits": splits}


def statistics_of(**columns):
    return tfdv.generate_statistics_from_dataframe(pd.DataFrame(columns))


@pytest.fixture(scope="module")
def schema():
    """Schema of rows with a label and mostly a text."""
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
        inputs = executor_harness.artifacts(
            tmp_path,
            examples=standard_artifacts.Examples,
            anomalies=standard_artifacts.ExampleAnomalies,
            media_statistics=MediaStatistics,
            schema=standard_artifacts.Schema,
        )
        content = json.dumps({"labels": labels or {}, "fingerprint": "abc"})
        (tmp_path / "examples" / "ingested.json").write_text(content)
        (anomalies,) = inputs["anomalies"]
        anomalies.split_names = artifact_utils.encode_split_names(list(by_split))
        for split, proto in by_split.items():
            path = tmp_path / "anomalies" / f"Split-{split}" / "SchemaDiff.pb"
            io_utils.write_bytes_file(str(path), proto.SerializeToString())
        path = tmp_path / "media_statistics" / "media_statistics.json"
        path.write_text(json.dumps(media_statistics or media()))
        io_utils.write_pbtxt_file(str(tmp_path / "schema" / "schema.pbtxt"), schema)
        Executor(executor_harness.context(tmp_path)).Do(
            inputs,
            executor_harness.artifacts(tmp_path, blessing=DataBlessing),
            {"checks": checks, "schema_file": schema_file, "code": ""},
        )
        return json.loads((tmp_path / "blessing" / "passed.json").read_text())

    return run


NONE = anomalies_pb2.Anomalies()


@pytest.mark.parametrize(
    ("shares", "checks", "lines"),
    [
        ({"silent": 0.5}, {}, []),
        ({"silent": 0.62}, {}, ["audio: 62 %.* silent .*max_silent_share=0.5."]),
        (
            {"clipped": 0.0123, "silent": 0.2},
            {"max_clipped_share": 0.01},
            ["audio: 1.23 %.*train is clipped .*max_clipped_share=0.01."],
        ),
    ],
)
def test_too_much_silent_or_clipped_audio_is_an_anomaly(shares, checks, lines):
    result = media_anomalies(media(**shares), ChecksConfig(**checks))
    assert len(result) == len(lines)
    assert all(map(re.fullmatch, lines, result))


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (
            {"label": ["goat"] * 6 + ["emu"] + ["dog"] * 493, "text": ["x"] * 500},
            ["label in val: .* not list: emu .under 1 %.*, goat .1 % of the rows."],
        ),
        (
            {"label": ["cat", "dog"] * 50, "text": ["x"] * 40 + [None] * 60},
            ["text in val: too often absent: in 40 % .* requires 80 %"],
        ),
        (
            {"label": [1, 2] * 50, "other": ["x"] * 100},
            [
                "label in val: unexpected data type: .*: BYTES but got INT",
                "other in val: a feature that the schema does not know",
                "text in val: absent in all rows",
            ],
        ),
    ],
)
def test_each_difference_from_the_schema_has_a_line(schema, columns, lines):
    result = schema_anomalies(anomalies_of(schema, **columns), "val")
    assert len(result) == len(lines)
    assert all(map(re.fullmatch, lines, result))


def test_anomalies_of_a_split_are_reported():
    anomalies = anomalies_pb2.Anomalies(data_missing=True)
    anomalies.dataset_anomaly_info.short_description = "Low num examples in dataset."
    anomalies.dataset_anomaly_info.description = "Fewer than\n 5.  "
    anomalies.anomaly_info["x"].description = "Odd."
    assert schema_anomalies(anomalies, "val") == [
        "no rows in val",
        "rows of val: low num examples in dataset.: Fewer than 5",
        "x in val: Odd",
    ]


def test_good_rows_pass(passes):
    assert passes({"train": NONE, "val": NONE}, checks='{"max_silent_share": 0.1}') == {
        "splits": ["train", "val"],
        "checks": {"max_silent_share": 0.1},
    }


def test_the_schema_of_passed_rows_is_saved(passes, tmp_path, schema):
    path = tmp_path / "kept" / "schema.pbtxt"
    passes({"train": NONE}, schema_file=str(path))
    assert io_utils.parse_pbtxt_file(str(path), schema_pb2.Schema()) == schema
    assert edited_hash(str(path), "abc") == ""


def test_one_message_has_all_failed_checks(passes, tmp_path, schema):
    goats = anomalies_of(schema, label=["goat"] * 100, text=["x"] * 100)
    path = tmp_path / "kept.pbtxt"

    with pytest.raises(UserError) as error:
        passes({"train": NONE, "val": goats}, media(silent=1.0), "{}", str(path))

    message = str(error.value)
    assert message.startswith("The data do not pass 2 checks:\n  label in val: ")
    assert "goat (100 % of the rows)" in message
    assert "audio: 100 % of the audio in train is silent" in message
    assert f"{tmp_path}/media_statistics/media_statistics.html" in message
    assert f"{tmp_path}/anomalies" in message and f"edit {path}" in message
    assert not path.exists() and not (tmp_path / "blessing" / "passed.json").exists()


def test_an_unknown_class_among_several_labels_is_named(passes, schema):
    labels = {"train": {"cat|dog": 3, "cat": 2}, "val": {"dog|goat": 1}}
    assert passes({"train": NONE}, labels=labels)  # TFDV checks single labels
    schema = schema_pb2.Schema.FromString(schema.SerializeToString())
    tfdv.get_feature(schema, "label").ClearField("domain_info")
    assert class_anomalies(schema, {"labels": labels}) == [
        "label in val: classes that the schema does not list: goat"
    ]


def test_a_long_list_is_cut(passes):
    anomalies = anomalies_pb2.Anomalies()
    for i in range(50):
        anomalies.anomaly_info[f"x{i:02d}"].description = "Odd."
    with pytest.raises(UserError, match="50 checks") as error:
        passes({"train": anomalies})
    assert "x29" in str(error.value) and "x30" not in str(error.value)
    assert "... and 20 more" in str(error.value)


def test_the_checks_are_those_of_the_settings(passes):
    assert passes({"train": NONE}, media(silent=0.6), '{"max_silent_share": 0.7}')
    with pytest.raises(UserError, match="checks.max_silent_share=0.5.*"):
        passes({"train": NONE}, media(silent=0.6))
