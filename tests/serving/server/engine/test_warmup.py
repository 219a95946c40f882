import shutil

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from mmkeras.schema import WARMUP_FILE
from serving.server.engine.admission import WeightedSemaphore
from serving.server.engine.servable import Servable
from serving.server.engine.warmup import MOST_RECORDS, warm_up
from serving.server.errors import ServingError
from tests.serving.models import floats
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


@pytest.fixture
def path(tmp_path, halves):
    """A copy of the model that has no warm-up file yet."""
    return shutil.copytree(halves / "1", tmp_path / "1")


def write(path, *records):
    (path / WARMUP_FILE).parent.mkdir()
    with tf.io.TFRecordWriter(str(path / WARMUP_FILE)) as writer:
        for record in records:
            writer.write(
                record if type(record) is bytes else record.SerializeToString()
            )


def test_without_a_file_there_is_nothing_to_do(servable, path):
    assert warm_up(servable, path, 2**20) == 0


def test_each_request_is_answered_once(path):
    write(path, PREDICT, CLASSIFY, REGRESS, PREDICT)
    seen = []
    servable = Servable(
        "m",
        1,
        path,
        room=WeightedSemaphore(9, "rows"),
        observe=lambda api, us: seen.append(api),
    )
    assert warm_up(servable, path, 2**20) == 4
    assert seen == ["Predict", "Classify", "Regress", "Predict"]
    servable.close()


def test_the_warm_up_file_of_an_export_is_answered(tmp_path_factory):
    run, _ = trained_run(tmp_path_factory)
    path = run / "export" / "1"
    servable = Servable("m", 1, path, room=WeightedSemaphore(99, "rows"))
    assert warm_up(servable, path, 2**24) == 3
    servable.close()


def test_a_request_that_fails_fails_the_load(servable, path):
    bad = prediction_log_pb2.PredictionLog()
    bad.predict_log.request.inputs["wrong"].CopyFrom(tf.make_tensor_proto([1.0]))
    write(path, PREDICT, bad)
    with pytest.raises(ServingError, match="Signature input alias: x"):
        warm_up(servable, path, 2**20)


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (b"\xff\xff", "Failed to parse warmup record"),
        (PREDICT.SerializeToString() + b"\0", "Failed to parse warmup record"),
        (SESSION, "Unsupported log_type for warmup: session_run_log"),
        (b"", "Unsupported log_type for warmup: None"),
    ],
)
def test_what_is_no_request_fails_the_load(servable, path, record, text):
    write(path, record)
    with pytest.raises(ServingError, match=text):
        warm_up(servable, path, 2**20)


def test_what_is_no_file_of_records_fails_the_load(servable, path):
    write(path)
    (path / WARMUP_FILE).write_bytes(b"no records at all, but text")
    with pytest.raises(ServingError, match="data is in TFRecord format") as caught:
        warm_up(servable, path, 2**20)
    assert caught.value.code is grpc.StatusCode.DATA_LOSS


def test_more_than_a_thousand_records_fail_the_load(servable, path):
    write(path, *[PREDICT] * (MOST_RECORDS + 1))
    with pytest.raises(ServingError, match=r"exceeds the maximum \(1000\)"):
        warm_up(servable, path, 2**20)


def test_a_folder_in_the_place_of_the_file_fails_the_load(servable, path):
    (path / WARMUP_FILE).mkdir(parents=True)
    with pytest.raises(ServingError, match="directory") as caught:
        warm_up(servable, path, 2**20)
    assert caught.value.code is grpc.StatusCode.FAILED_PRECONDITION
