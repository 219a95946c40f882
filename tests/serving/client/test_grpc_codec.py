"""gRPC messages: contents, size estimate, missing outputs."""

import pytest
from tensorflow_serving.apis import predict_pb2

from serving.client import grpc_codec
from serving.client.errors import PredictError
from serving.client.requests import ModelSpec, PredictCall

PREDICT = PredictCall(
    spec=ModelSpec(model="m", label="stable"), columns={"text": [b"a", b""]}
)


def test_the_stubs_read_a_request():
    content = grpc_codec.encode(PREDICT, "t").content
    request = predict_pb2.PredictRequest.FromString(content)
    assert request.model_spec.name == "m"
    assert request.model_spec.version_label == "stable"
    assert request.model_spec.signature_name == "serving_default"
    assert list(request.inputs["text"].string_val) == [b"a", b""]
    outputs = {"probabilities", "label", "score", "status"}
    assert set(request.output_filter) == outputs


def test_a_missing_output_is_named():
    response = predict_pb2.PredictResponse().SerializeToString()
    with pytest.raises(PredictError, match="there is no output 'probabilities'"):
        grpc_codec.encode(PREDICT, "t").decode(response)
