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


def record(kind, **request):
    """Returns a record of a Predict, Classify, Regress or Session request."""
    return prediction_log_pb2.PredictionLog(**{f"{kind}_log": {"request": request}})


def example_record(kind):
    data = {"example_list": {"examples": [floats(1)]}}
    return record(kind, model_spec={"signature_name": kind}, input=data)


PREDICT = record("predict", inputs={"x": tf.make_tensor_proto([1.0])})
UNKNOWN_INPUT = record("predict", inputs={"z": tf.make_tensor_proto([1.0])})
CLASSIFY, REGRESS = example_record("classify"), example_record("regress")
SESSION = record("session_run", fetch=["y"])


@pytest.fixture
def path(tmp_path, halves):
    """A copy of the model without a warm-up file."""
    return shutil.copytree(halves / "1", tmp_path / "1")


def write(path, *records):
    (path / WARMUP_FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(path / WARMUP_FILE)) as writer:
        for item in records:
            writer.write(item if type(item) is bytes else item.SerializeToString())


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
    file = path / WARMUP_FILE
    file.mkdir(parents=True)
    error = serving_error(warm_up, servable, path, 2**20)
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "directory" in error.message
    file.rmdir()
    file.write_bytes(b"no records at all, but text")
    error = serving_error(warm_up, servable, path, 2**20)
    assert error.code is grpc.StatusCode.DATA_LOSS
    assert "data is in TFRecord format" in error.message
