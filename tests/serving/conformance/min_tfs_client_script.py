"""Script of min-tfs-client: a job on stdin, results on stdout.

It runs in its own environment and imports nothing of this repository. The client
supports text only, so rows have no image and no audio.
"""

import json
import sys

import grpc
import numpy as np
from min_tfs_client.requests import TensorServingClient
from min_tfs_client.tensors import tensor_proto_to_ndarray


def arrays(response):
    return {k: tensor_proto_to_ndarray(v).tolist() for k, v in response.outputs.items()}


def failure(client, model, inputs, **options):
    try:
        client.predict_request(model, inputs, timeout=30, **options)
    except grpc.RpcError as error:
        return [error.code().name, error.details()]
    return ["no error", ""]


def main():
    job = json.load(sys.stdin)
    host, _, port = job["grpc"].rpartition(":")
    client = TensorServingClient(host, int(port))
    halves, classifier = job["halves"], job["classifier"]
    floats = {"x": np.array(job["floats"], np.float32)}
    texts = np.array(job["texts"])
    absent = np.full_like(texts, "")
    row = {"text": texts, "image": absent, "audio": absent}
    first = client.predict_request(halves, floats, timeout=30, model_version=1)
    results = {
        "floats": arrays(first)["y"],
        "version": first.model_spec.version.value,
        "rows": arrays(client.predict_request(classifier, row, timeout=30)),
        "errors": {
            "unknown model": failure(client, "unknown", floats),
            "unknown version": failure(client, halves, floats, model_version=7),
            "missing input": failure(client, classifier, {"text": texts}),
            "wrong dtype": failure(client, halves, {"x": np.array([1.0])}),
        },
    }
    json.dump(results, sys.stdout)


main()
