"""Warm-up requests, run before a model version is available.

Source: TensorFlow Serving 2.16.1 (saved_model_warmup.cc, saved_model_warmup_util.cc).
"""

from functools import partial

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

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
    """Runs the warm-up requests of the SavedModel at `path`; returns their number."""
    file, count = join_path(path, WARMUP_FILE), 0
    if not tf.io.gfile.exists(file):
        return 0
    calls = {
        "predict_log": partial(predict, max_tensor_bytes=max_tensor_bytes),
        "classify_log": classify,
        "regress_log": regress,
        "multi_inference_log": multi_inference,
    }
    try:
        for record in tf.data.TFRecordDataset(file).as_numpy_iterator():
            count += 1
            if count > MAX_RECORDS:
                raise invalid_argument(
                    f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at "
                    f"{file}"
                )
            log = parse_message(PredictionLog, record)
            if (kind := log.WhichOneof("log_type")) not in calls:
                raise unimplemented(f"Unsupported log_type for warmup: {kind}")
            calls[kind](servable, getattr(log, kind).request, Deadline())
    except DecodeError:
        raise invalid_argument(f"Failed to parse warmup record from {file}") from None
    except tf.errors.OpError as error:  # a folder, or an unreadable file
        code, text = from_tensorflow_error(error).code, error.message
        if isinstance(error, tf.errors.DataLossError):
            text += ". Please verify your warmup data is in TFRecord format."
        raise ServingError(code, text) from None
    return count
