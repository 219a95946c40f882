"""Runs the script of each foreign client, in the environment of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.serving.conformance import environments
from tests.serving.conformance.environments import HERE, Unavailable

TIMEOUT_S = 180


def ask(client: str, job: dict) -> dict:
    """Gives `job` to the script of a client; returns the answers that it prints.

    Raises:
        Unavailable: The environment of the client cannot be made.
        AssertionError: The script ended by an error.
    """
    command, modules = _command(client)
    # A proxy of the machine is not for the machine itself.
    here = {"no_proxy": "127.0.0.1", "NODE_PATH": str(modules)}
    done = subprocess.run(
        [str(word) for word in command],
        input=json.dumps(job),
        env=os.environ | here | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, f"{client}: {done.stderr[-3000:]}"
    return json.loads(done.stdout)


def curl(*words: str) -> tuple[int, dict]:
    """Returns the status and the JSON that curl gets."""
    if shutil.which("curl") is None:
        raise Unavailable("There is no program 'curl'. Install it.")
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30"]
        + ["--write-out", "\n%{http_code}", *words],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition("\n")
    return int(status), json.loads(body)


def _command(client: str) -> tuple[list[str | Path], Path | str]:
    """The words to run, and for Node where its packages are."""
    if client == "grpc-js":
        return ["node", HERE / "grpc_js_client.js"], environments.node_modules()
    if client == "tfx":  # TFX is in the environment of the tests itself
        return [sys.executable, HERE / "tfx_client.py"], ""
    if client == "min-tfs-client":
        script, door = HERE / "min_tfs_client_script.py", []
    else:
        script = HERE / "ovms_client.py"
        client, door = "ovmsclient", [{"ovmsclient": "grpc"}.get(client, "rest")]
    # -I: neither this repository nor its packages can be imported.
    return [environments.python_with(client), "-I", script, *door], ""
