"""gRPC: sizes, and what is read of a response."""

import pytest
from tensorflow_serving.apis import predict_pb2

from serving.client import grpc_codec
from serving.client.errors import PredictError
from serving.client.requests import ModelSpec, PredictCall

ASK = PredictCall(
    spec=ModelSpec(model="m", label="stable"), columns={"text": [b"a", b""]}
)


def test_a_request_is_what_the_stubs_read():
    sent = grpc_codec.send(ASK, "t")
    request = predict_pb2.PredictRequest.FromString(sent.content)
    assert request.model_spec.name == "m"
    assert request.model_spec.version_label == "stable"
    assert request.model_spec.signature_name == "serving_default"
    assert list(request.inputs["text"].string_val) == [b"a", b""]
    outputs = {"probabilities", "label", "score", "status"}
    assert set(request.output_filter) == outputs


def test_a_version_wins_over_the_label():
    sent = grpc_codec.send(PredictCall(spec=ASK.spec.at(7), columns=ASK.columns), "t")
    spec = predict_pb2.PredictRequest.FromString(sent.content).model_spec
    assert spec.version.value == 7 and spec.version_label == ""


@pytest.mark.parametrize("size", [0, 1, 127, 128, 70_000])
def test_a_row_is_no_larger_than_reckoned(size):
    row = {"text": b"x" * size, "image": b"y" * size}
    columns = {name: [content] * 50 for name, content in row.items()}
    sent = grpc_codec.send(PredictCall(spec=ModelSpec(model="m"), columns=columns), "t")
    assert len(sent.content) <= 50 * grpc_codec.row_bytes(row) + 2048


def test_an_output_that_is_not_there_is_named():
    response = predict_pb2.PredictResponse().SerializeToString()
    with pytest.raises(PredictError, match="there is no output 'probabilities'"):
        grpc_codec.send(ASK, "t").read(response)
