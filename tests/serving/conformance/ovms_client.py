"""Asks a server with ovmsclient, by gRPC or by HTTP: a job on stdin, answers on stdout.

Runs in an environment of its own, so it imports nothing of this repository.
"""

import json
import sys
from base64 import b64decode

from ovmsclient import make_grpc_client, make_http_client

DOORS = {"grpc": make_grpc_client, "rest": make_http_client}
PREFIX = "Error occurred during handling the request: "


def plain(value):
    """Arrays and bytes as JSON has them."""
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


def failure(call, *arguments):
    """Name of the exception and its text, without what the client puts before each."""
    try:
        call(*arguments)
    except Exception as error:
        return [type(error).__name__, str(error).removeprefix(PREFIX)]
    return ["no error", ""]


def main():
    door = sys.argv[1]
    job = json.load(sys.stdin)
    client = DOORS[door](job[door])
    halves, classifier = job["halves"], job["classifier"]
    row = {name: [b64decode(one) for one in job["rows"][name]] for name in job["rows"]}
    floats = {"x": job["floats"]}
    answers = {
        "floats": client.predict(floats, halves, 1),
        "rows": client.predict(row, classifier, 1),
        "metadata": client.get_model_metadata(classifier, 1),
        "status": client.get_model_status(classifier, 1),
        "errors": {
            "unknown model": failure(client.predict, floats, "nobody", 1),
            "unknown version": failure(client.predict, floats, halves, 7),
            "its own default, version 0": failure(client.predict, floats, halves),
            "unknown input": failure(client.predict, {"z": [1.0]}, halves, 1),
            "status of an unknown model": failure(client.get_model_status, "nobody", 1),
            "metadata of an unknown model": failure(
                client.get_model_metadata, "nobody", 1
            ),
        },
    }
    json.dump(plain(answers), sys.stdout)


main()
