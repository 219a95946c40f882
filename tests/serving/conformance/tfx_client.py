"""Script of TFX's client: a job on stdin, results on stdout.

The client of TFX's InfraValidator reports whether a model is ready and whether requests
succeed.
"""

import json
import sys
import time
from base64 import b64decode

import grpc
from tensorflow_serving.apis import classification_pb2, predict_pb2
from tfx.components.infra_validator import error_types
from tfx.components.infra_validator.model_server_clients import (
    tensorflow_serving_client,
)


def failure(call, *arguments):
    """Returns the exception's name, and the code and text of its gRPC error."""
    try:
        call(*arguments)
    except (error_types.ValidationFailed, error_types.DeadlineExceeded) as error:
        cause = error.__cause__
        if isinstance(cause, grpc.RpcError):
            return [type(error).__name__, cause.code().name, cause.details()]
        return [type(error).__name__, "", str(error)]
    return ["no error", "", ""]


def main():
    job = json.load(sys.stdin)
    client = tensorflow_serving_client.TensorFlowServingClient(
        job["grpc"], job["classifier"]
    )
    unknown = tensorflow_serving_client.TensorFlowServingClient(job["grpc"], "unknown")
    predict = predict_pb2.PredictRequest.FromString(b64decode(job["predict"]))
    classify = classification_pb2.ClassificationRequest()
    classify.ParseFromString(b64decode(job["classify"]))
    wrong = predict_pb2.PredictRequest()
    wrong.CopyFrom(predict)
    del wrong.inputs["image"], wrong.inputs["audio"]
    results = {
        "loaded": failure(client.WaitUntilModelLoaded, time.time() + 30, 1),
        "predicted": failure(client.SendRequests, [predict, classify]),
        "errors": {
            "missing input": failure(client.SendRequests, [wrong]),
            "never loaded": failure(unknown.WaitUntilModelLoaded, time.time() + 2, 1),
        },
    }
    json.dump(results, sys.stdout)


main()
