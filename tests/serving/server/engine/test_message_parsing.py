import pytest
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
    prediction_log_pb2,
)

from serving.server.engine.message_parsing import parse_message

KINDS = [
    predict_pb2.PredictRequest,
    get_model_status_pb2.GetModelStatusRequest,
    model_management_pb2.ReloadConfigRequest,
    prediction_log_pb2.PredictionLog,
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_of_its_own_type_and_may_be_empty(kind):
    message = parse_message(kind, b"")
    assert type(message) is kind and message == kind()


def test_all_of_a_long_message_is_read():
    message = predict_pb2.PredictRequest(output_filter=["y" * 100] * 300)
    assert parse_message(type(message), message.SerializeToString()) == message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [b"\x00", b"\x04", b"\x0c", b"\x08", b"\xff", b"\x0a"])
def test_what_ends_too_early_is_no_message(kind, end, recwarn):
    with pytest.raises(DecodeError):
        parse_message(kind, end)
    message = predict_pb2.PredictRequest(model_spec={"name": "m"})
    with pytest.raises(DecodeError):
        parse_message(type(message), message.SerializeToString() + end)
    assert not recwarn.list


def test_a_text_that_is_not_utf_8_is_no_message():
    with pytest.raises(DecodeError):
        parse_message(predict_pb2.PredictRequest, b"\x1a\x01\xff").output_filter[0]
