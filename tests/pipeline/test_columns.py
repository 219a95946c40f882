"""Tests of the pipeline's components on a table of two texts, an image and audio."""

import json
from dataclasses import asdict

import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.components.example_validator import executor as example_validator
from tfx.types import standard_artifacts
from tfx.utils import io_utils

from mmkeras.data.dataset import load_dataset, with_columns
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.export.saved_model import export
from mmkeras.export.verification import read_rows
from pipeline.components import artifacts, data_gate, media_statistics
from pipeline.components.masked_modality_eval import PredictRows, exported_settings
from tests import table_factory
from tests.pipeline import executor_harness
from tests.preset_models import new_model

COLUMNS = ["title", "my notes", "photo", "sound"]
TYPES = {"text": "title,my notes", "image": "photo", "audio": "sound"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rows = table_factory.make_rows()
    for i, row in enumerate(rows):
        row["title"], row["photo"] = row.pop("text"), row.pop("image")
        row["sound"], row["my notes"] = row.pop("audio"), f"note {i % 3}" * (i % 5 > 0)
    path = tmp_path_factory.mktemp("columns") / "data" / "data.csv"
    return table_factory.write_table(path, rows)


@pytest.fixture(scope="module")
def config(table):
    return table_factory.tiny_config(table.parents[1] / "cache", table=TYPES)


@pytest.fixture(scope="module")
def examples(table, config):
    return executor_harness.examples_of(table, config, table.parents[1])[0]


@pytest.fixture(scope="module")
def statistics(table, examples):
    return executor_harness.statistics_of(examples, table.parents[1])


@pytest.fixture(scope="module")
def schema(table, examples, statistics):
    return executor_harness.schema_of(examples, statistics, table.parents[1])


@pytest.fixture(scope="module")
def state(table, config, examples):
    return executor_harness.transformed(examples, config, table.parents[1] / "t")[1]


def test_each_column_has_its_presence_in_the_schema(schema):
    path = f"{schema.uri}/schema.pbtxt"
    proto = io_utils.parse_pbtxt_file(path, schema_pb2.Schema())
    features = {feature.name: feature for feature in proto.feature}
    minimum = {name: features[name].presence.min_fraction for name in COLUMNS}
    notes = minimum.pop("my notes")
    assert set(minimum.values()) == {0.8} and notes == 0.55  # 6 of 8 val rows
    media = {n for n, f in features.items() if f.HasField("image_domain")}
    assert media == {"photo", "sound"}


def test_the_rows_pass_the_gate_with_statistics_of_each_column(
    examples, statistics, schema, tmp_path
):
    context = executor_harness.context(tmp_path)
    outputs = executor_harness.artifacts(
        tmp_path,
        anomalies=standard_artifacts.ExampleAnomalies,
        media_statistics=artifacts.MediaStatistics,
        blessing=artifacts.DataBlessing,
    )
    inputs = {"examples": [examples], "statistics": [statistics], "schema": [schema]}
    example_validator.Executor(context).Do(inputs, outputs, {})
    media_statistics.Executor(context).Do(inputs, outputs, {"code": ""})
    properties = {"checks": "{}", "schema_file": "", "code": ""}
    data_gate.Executor(context).Do(inputs | outputs, outputs, properties)
    path = tmp_path / "media_statistics" / "media_statistics.json"
    train = json.loads(path.read_text())["splits"]["train"]
    assert list(train["columns"]) == COLUMNS
    assert train["columns"]["my notes"]["absent"] == 5
    assert {"title_characters", "photo_width_px", "sound_seconds"} < {*train["numbers"]}
    assert train["values"]["sound_rate_hz"] == {"16000": 24}
    page = path.with_name("media_statistics.html").read_text()
    assert "without my notes" in page and "<h2>sound <small>audio</small>" in page


def test_the_state_is_that_of_the_train_program(state, table, config):
    dataset = ingest(table, config)
    expected = fit_preprocessing(dataset, with_columns(config, dataset))
    assert state.branches == expected.branches == {name: (name,) for name in COLUMNS}
    for name in ("title", "my notes", "photo"):
        assert state.columns[name] == expected.columns[name]
    assert state.columns["sound"]["mean"] == pytest.approx(
        expected.columns["sound"]["mean"], rel=1e-6
    )
    assert asdict(state).keys() == asdict(expected).keys()


def test_an_evaluation_masks_each_branch(state, config, examples, tmp_path):
    dataset = load_dataset(examples.uri)
    model = new_model(with_columns(config, dataset), state)
    columns, (path,) = model.preprocessor.columns, dataset.files("test")
    version = str(export(model, read_rows(path, columns, 4), tmp_path / "export"))
    worker = PredictRows({"": (version, *exported_settings(version))}, "")
    worker.setup()
    serve, calls = worker._serve[""], []
    worker._serve[""] = lambda **inputs: calls.append(inputs) or serve(**inputs)
    records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    raw = pa.array([[record] for record in records])
    batch = pa.RecordBatch.from_arrays([raw], [tfma.ARROW_INPUT_COLUMN])
    results = list(worker.process({tfma.ARROW_RECORD_BATCH_KEY: batch}))
    slices = [result[tfma.FEATURES_KEY] for result in results]
    hidden = [row["hidden"].item() for row in slices]
    assert set(hidden) == {"nothing", *COLUMNS} and len(hidden) == 5 * len(records)
    present = {row["present"].item() for row in slices if "present" in row}
    assert present == {"title+my notes+photo+sound", "title+photo+sound"}
    keys = {name: column.key for name, column in columns.items()}
    for name, inputs in zip(COLUMNS, calls[1:], strict=True):
        empty = {key for key, values in inputs.items() if not any(values.numpy())}
        assert empty == {keys[name]}
