"""Warm-up requests, run before a model version is available.

Source: TensorFlow Serving 2.16.1 (saved_model_warmup.cc, saved_model_warmup_util.cc).
"""

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from mmkeras.files import join_path
from mmkeras.schema import WARMUP_FILE
from serving.server.deadline import Deadline
from serving.server.engine.inference import classify, multi_inference, regress
from serving.server.engine.message_parsing import parse_message
from serving.server.engine.predict import predict
from serving.server.engine.servable import Servable
from serving.server.errors import (
    ServingError,
    from_tensorflow_error,
    invalid_argument,
    unimplemented,
)

MAX_RECORDS = 1000


def warm_up(servable: Servable, path: str, max_tensor_bytes: int) -> int:
    """Runs the warm-up requests of the SavedModel at `path`; returns their number.

    Raises:
        ServingError: A request failed, or the file cannot be read.
    """
    file = join_path(path, WARMUP_FILE)
    if not tf.io.gfile.exists(file):
        return 0
    count = 0
    try:
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            count += 1
            if count > MAX_RECORDS:
                raise invalid_argument(
                    f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at "
                    f"{file}"
                )
            _replay(servable, _parse(record, file), max_tensor_bytes)
    except tf.errors.DataLossError as error:
        hint = "Please verify your warmup data is in TFRecord format."
        code = from_tensorflow_error(error).code
        raise ServingError(code, f"{error.message}. {hint}") from None
    except tf.errors.OpError as error:  # a folder, or an unreadable file
        raise from_tensorflow_error(error) from None
    return count


def _parse(record: bytes, file: str) -> prediction_log_pb2.PredictionLog:
    try:
        return parse_message(prediction_log_pb2.PredictionLog, record)
    except DecodeError:
        raise invalid_argument(f"Failed to parse warmup record from {file}") from None


def _replay(servable: Servable, log, max_tensor_bytes: int) -> None:
    kind, never = log.WhichOneof("log_type"), Deadline()
    if kind == "predict_log":
        predict(servable, log.predict_log.request, never, max_tensor_bytes)
    elif kind == "classify_log":
        classify(servable, log.classify_log.request, never)
    elif kind == "regress_log":
        regress(servable, log.regress_log.request, never)
    elif kind == "multi_inference_log":
        multi_inference(servable, log.multi_inference_log.request, never)
    else:
        raise unimplemented(f"Unsupported log_type for warmup: {kind}")
