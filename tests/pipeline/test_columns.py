"""Tests of the pipeline's components on a table of seven columns of five types."""

import json
from dataclasses import asdict

import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.utils import io_utils

from mmkeras.data.dataset import with_columns
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.export.saved_model import argument_name, export
from mmkeras.export.verification import read_rows
from pipeline.components.masked_modality_eval import PredictRows, exported_settings
from tests import table_factory
from tests.pipeline import executor_harness
from tests.preset_models import new_model

MEDIA = ["title", "my notes", "photo", "sound"]  # that are branches
COLUMNS = [*MEDIA, "price", "class"]
TYPES = {"text": "title,my notes", "image": "photo", "audio": "sound"}
TYPES |= {"numeric": "price", "category": "class"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rows = table_factory.make_rows()
    for i, row in enumerate(rows):
        row["title"], row["photo"] = row.pop("text"), row.pop("image")
        row["sound"], row["my notes"] = row.pop("audio"), f"note {i % 3}" * (i % 5 > 0)
        row["price"], row["class"] = f"{i % 7}.{i}", "" if i == 39 else f"New {i % 2}"
    rows[39]["price"] = ""
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
    expected = dict.fromkeys(COLUMNS, 0.8) | {"my notes": 0.55}  # in 6 of 8 val rows
    assert minimum == expected | {"price": 0.675, "class": 0.675}  # in 7 of 8 test rows
    assert features["price"].type == schema_pb2.FLOAT
    assert features["class"].type == schema_pb2.BYTES
    media = {n for n, f in features.items() if f.HasField("image_domain")}
    assert media == {"photo", "sound"}


def test_the_rows_pass_the_gate_with_statistics_of_each_column(
    examples, statistics, schema, tmp_path
):
    executor_harness.pass_gate(examples, statistics, schema, tmp_path)
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
    branches = {name: (name,) for name in MEDIA} | {"tabular": ("price", "class")}
    assert state.branches == expected.branches == branches
    columns = asdict(state)["columns"]
    for name, column in expected.columns.items():
        for key in column.keys() & {"mean", "deviation"}:
            assert columns[name].pop(key) == pytest.approx(column.pop(key), rel=1e-6)
    assert columns == expected.columns
    assert state.columns["class"]["categories"] == ["New 0", "New 1"]


def test_an_evaluation_masks_each_branch(table, config, tmp_path):
    dataset = ingest(table, config)
    state = fit_preprocessing(dataset, config)
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
    assert set(hidden) == {"nothing", *state.branches} and len(hidden) == 48
    present = {row["present"].item() for row in slices if "present" in row}
    media = "title+my notes+photo+sound"
    assert present == {f"{media}+tabular", media, "title+photo+sound+tabular"}
    arguments = {argument_name(column): column for column in columns.values()}
    for names, inputs in zip(state.branches.values(), calls[1:], strict=True):
        empty = [
            arguments[key].name
            for key, values in inputs.items()
            if all(map(arguments[key].is_absent, values.numpy().tolist()))
        ]
        assert empty == list(names)
