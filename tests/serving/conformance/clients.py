"""Scripts of third-party clients, run in their own environments."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.serving.conformance import environments
from tests.serving.conformance.environments import HERE, UnavailableError

TIMEOUT_S = 180


def run_client(client: str, job: dict) -> dict:
    """Sends `job` to the script of a client; returns its results.

    Raises:
        UnavailableErrorError: The environment of the client cannot be created.
        AssertionError: The script failed.
    """
    command, modules = _command(client)
    environment = {
        "no_proxy": "127.0.0.1",
        "NODE_PATH": str(modules),
    }  # no proxy for this machine
    process = subprocess.run(
        [str(word) for word in command],
        input=json.dumps(job),
        env=os.environ | environment | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert process.returncode == 0, f"{client}: {process.stderr[-3000:]}"
    return json.loads(process.stdout)


def curl(*words: str) -> tuple[int, dict]:
    """Returns the status and the JSON of curl."""
    if shutil.which("curl") is None:
        raise UnavailableError("There is no program 'curl'. Install it.")
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


def _command(client: str) -> tuple[list[str | Path], Path | str]:
    """Returns the command, and the folder of packages for Node."""
    if client == "grpc-js":
        return ["node", HERE / "grpc_js_client.js"], environments.node_modules()
    if client == "tfx":  # installed with the tests of the pipeline
        return [sys.executable, HERE / "tfx_client.py"], ""
    if client == "min-tfs-client":
        script, flags = HERE / "min_tfs_client_script.py", []
    else:
        script = HERE / "ovms_client.py"
        client, flags = "ovmsclient", [{"ovmsclient": "grpc"}.get(client, "rest")]
    # -I: this repository and its packages cannot be imported.
    return [environments.python_with(client), "-I", script, *flags], ""
