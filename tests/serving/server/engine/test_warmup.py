from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from mmkeras.schema import WARMUP_FILE
from serving.server.engine.warmup import MAX_RECORDS, warm_up
from tests.serving.models import floats
from tests.serving.server.assertions import load_servable, serving_error
from tests.table_factory import trained_run


def record(kind, **request):
    log = prediction_log_pb2.PredictionLog(**{f"{kind}_log": {"request": request}})
    return log.SerializeToString()


DATA = {"example_list": {"examples": [floats(1)]}}
SPEC = {"name": "m", "signature_name": "classify"}
PREDICT = record("predict", inputs={"x": tf.make_tensor_proto([1.0])})
UNKNOWN_INPUT = record("predict", inputs={"z": tf.make_tensor_proto([1.0])})
CLASSIFY = record("classify", model_spec=SPEC, input=DATA)
REGRESS = record("regress", model_spec={"signature_name": "regress"}, input=DATA)
TASK = {"model_spec": SPEC, "method_name": "tensorflow/serving/classify"}
SEVERAL = record("multi_inference", tasks=[TASK], input=DATA)


@pytest.fixture
def path(tmp_path):
    """A folder of a version without a warm-up file."""
    (tmp_path / WARMUP_FILE).parent.mkdir()
    return tmp_path


def write(path, *records):
    with tf.io.TFRecordWriter(str(path / WARMUP_FILE)) as writer:
        for item in records:
            writer.write(item)


def test_each_request_is_run_once(path, halves):
    calls = []
    servable = load_servable(halves / "1", observe=lambda api, us: calls.append(api))
    assert warm_up(servable, path, 2**20) == 0  # without a file
    write(path, PREDICT, CLASSIFY, REGRESS, SEVERAL, PREDICT)
    assert warm_up(servable, path, 2**20) == 5
    assert calls == ["Predict", "Classify", "Regress", "MultiInference", "Predict"]
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
        ([PREDICT + b"\0"], "Failed to parse warmup record"),
        ([record("session_run")], "Unsupported log_type for warmup: session_run_log"),
        ([b""], "Unsupported log_type for warmup: None"),
        ([PREDICT] * (MAX_RECORDS + 1), "exceeds the maximum (1000)"),
    ],
)
def test_an_invalid_record_fails_the_load(servable, path, records, text):
    write(path, *records)
    assert text in serving_error(warm_up, servable, path, 2**20).message


@pytest.mark.parametrize(
    ("create", "code", "text"),
    [
        (Path.mkdir, "FAILED_PRECONDITION", "directory"),
        (lambda path: path.write_text("x" * 99), "DATA_LOSS", "is in TFRecord format"),
    ],
)
def test_an_unreadable_file_fails_the_load(servable, path, create, code, text):
    create(path / WARMUP_FILE)
    error = serving_error(warm_up, servable, path, 2**20, match=text)
    assert error.code.name == code
