import pytest
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.server.engine.message_parsing import parse_message

KINDS = [predict_pb2.PredictRequest, prediction_log_pb2.PredictionLog]


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_has_its_type_and_may_be_empty(kind):
    message = parse_message(kind, b"")
    assert type(message) is kind and message == kind()


def test_a_long_message_is_read_completely():
    message = predict_pb2.PredictRequest(output_filter=["y" * 100] * 300)
    assert parse_message(type(message), message.SerializeToString()) == message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [b"\x00", b"\x04", b"\x0c", b"\x08", b"\xff", b"\x0a"])
def test_a_truncated_message_is_an_error(kind, end, recwarn):
    message = predict_pb2.PredictRequest(model_spec={"name": "m"}).SerializeToString()
    for type_, data in ((kind, end), (predict_pb2.PredictRequest, message + end)):
        with pytest.raises(DecodeError):
            parse_message(type_, data)
    assert not recwarn.list


def test_a_text_that_is_not_utf_8_is_an_error():
    with pytest.raises(DecodeError):
        parse_message(predict_pb2.PredictRequest, b"\x1a\x01\xff").output_filter[0]
