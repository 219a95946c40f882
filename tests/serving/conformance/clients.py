"""Scripts of third-party clients, run in their own environments."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.serving.conformance import environments
from tests.serving.conformance.environments import HERE

TIMEOUT_S = 180


def run_client(client: str, job: dict) -> dict:
    """Sends `job` to the script of a client; returns its results."""
    variables = {"no_proxy": "127.0.0.1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    if client == "grpc-js":
        variables["NODE_PATH"] = str(environments.node_modules())
    process = subprocess.run(
        _command(client),
        input=json.dumps(job),
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert process.returncode == 0, f"{client}: {process.stderr[-3000:]}"
    return json.loads(process.stdout)


def curl(*words: str) -> tuple[int, dict]:
    """Returns the status and the JSON of curl."""
    process = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30"]
        + ["--write-out", "\n%{http_code}", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert process.returncode == 0, process.stderr
    body, _, status = process.stdout.rpartition("\n")
    return int(status), json.loads(body)


def _command(client: str) -> list[str | Path]:
    if client == "grpc-js":
        return ["node", HERE / "grpc_js_client.js"]
    if client == "tfx":  # installed with the tests of the pipeline
        return [sys.executable, HERE / "tfx_client.py"]
    transport = "grpc" if client == "ovmsclient" else "rest"
    # -I: this repository and its packages cannot be imported.
    python = environments.python_with_ovmsclient()
    return [python, "-I", HERE / "ovms_client.py", transport]
