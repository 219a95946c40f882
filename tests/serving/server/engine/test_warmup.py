import shutil

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from mmkeras.schema import WARMUP_FILE
from serving.server.engine.warmup import MAX_RECORDS, warm_up
from tests.serving.models import floats
from tests.serving.server.assertions import load_servable, serving_error
from tests.table_factory import trained_run

PREDICT = prediction_log_pb2.PredictionLog()
PREDICT.predict_log.request.model_spec.name = "any"
PREDICT.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
CLASSIFY = prediction_log_pb2.PredictionLog()
CLASSIFY.classify_log.request.model_spec.signature_name = "classify"
CLASSIFY.classify_log.request.input.example_list.examples.append(floats(1))
REGRESS = prediction_log_pb2.PredictionLog()
REGRESS.regress_log.request.model_spec.signature_name = "regress"
REGRESS.regress_log.request.input.example_list.examples.append(floats(1))
SESSION = prediction_log_pb2.PredictionLog()
SESSION.session_run_log.request.fetch.append("y")
UNKNOWN_INPUT = prediction_log_pb2.PredictionLog()
UNKNOWN_INPUT.predict_log.request.inputs["z"].CopyFrom(tf.make_tensor_proto([1.0]))


@pytest.fixture
def path(tmp_path, halves):
    """A copy of the model without a warm-up file."""
    return shutil.copytree(halves / "1", tmp_path / "1")


def write(path, *records):
    (path / WARMUP_FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(path / WARMUP_FILE)) as writer:
        for record in records:
            writer.write(
                record if type(record) is bytes else record.SerializeToString()
            )


def test_without_a_file_nothing_is_run(servable, path):
    assert warm_up(servable, path, 2**20) == 0


def test_each_request_is_run_once(path):
    write(path, PREDICT, CLASSIFY, REGRESS, PREDICT)
    calls = []
    servable = load_servable(path, observe=lambda api, us: calls.append(api))
    assert warm_up(servable, path, 2**20) == 4
    assert calls == ["Predict", "Classify", "Regress", "Predict"]
    servable.close()


def test_the_warm_up_file_of_an_export_is_run(tmp_path_factory):
    run, _ = trained_run(tmp_path_factory)
    path = run / "export" / "1"
    servable = load_servable(path)
    assert warm_up(servable, path, 2**24) == 3
    servable.close()


@pytest.mark.parametrize(
    ("records", "text"),
    [
        ([PREDICT, UNKNOWN_INPUT], "Signature input alias: x"),
        ([b"\xff\xff"], "Failed to parse warmup record"),
        ([PREDICT.SerializeToString() + b"\0"], "Failed to parse warmup record"),
        ([SESSION], "Unsupported log_type for warmup: session_run_log"),
        ([b""], "Unsupported log_type for warmup: None"),
        ([PREDICT] * (MAX_RECORDS + 1), "exceeds the maximum (1000)"),
    ],
)
def test_an_invalid_record_fails_the_load(servable, path, records, text):
    write(path, *records)
    assert text in serving_error(warm_up, servable, path, 2**20).message


def test_an_unreadable_file_fails_the_load(servable, path):
    (path / WARMUP_FILE).mkdir(parents=True)
    error = serving_error(warm_up, servable, path, 2**20)
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "directory" in error.message
    (path / WARMUP_FILE).rmdir()
    (path / WARMUP_FILE).write_bytes(b"no records at all, but text")
    error = serving_error(warm_up, servable, path, 2**20)
    assert error.code is grpc.StatusCode.DATA_LOSS
    assert "data is in TFRecord format" in error.message
