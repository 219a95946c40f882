"""Script of ovmsclient, by gRPC or by REST: a job on stdin, results on stdout.

It runs in its own environment and imports nothing of this repository.
"""

import json
import sys
from base64 import b64decode

from ovmsclient import make_grpc_client, make_http_client

CLIENTS = {"grpc": make_grpc_client, "rest": make_http_client}
PREFIX = "Error occurred during handling the request: "


def plain(value):
    """Returns arrays and bytes as values of JSON."""
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def failure(call, *arguments):
    """Returns the name of the exception and its text, without the client's prefix."""
    try:
        call(*arguments)
    except Exception as error:
        return [type(error).__name__, str(error).removeprefix(PREFIX)]
    return ["no error", ""]


def main():
    transport = sys.argv[1]
    job = json.load(sys.stdin)
    client = CLIENTS[transport](job[transport])
    halves, classifier = job["halves"], job["classifier"]
    row = {name: list(map(b64decode, values)) for name, values in job["rows"].items()}
    floats = {"x": job["floats"]}
    results = {
        "floats": client.predict(floats, halves, 1),
        "rows": client.predict(row, classifier, 1),
        "metadata": client.get_model_metadata(classifier, 1),
        "status": client.get_model_status(classifier, 1),
        "errors": {
            "unknown model": failure(client.predict, floats, "unknown", 1),
            "version 0": failure(client.predict, floats, halves),
            "unknown input": failure(client.predict, {"z": [1.0]}, halves, 1),
            "status of an unknown model": failure(client.get_model_status, "no", 1),
            "metadata of an unknown model": failure(client.get_model_metadata, "no", 1),
        },
    }
    json.dump(plain(results), sys.stdout)


main()
