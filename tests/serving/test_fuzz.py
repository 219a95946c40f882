"""Fuzzing of the server: it survives every input and its responses are well-formed.

`python -m tests.serving.fuzzing --inputs 120000` is the same program for longer runs.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from tests import table_factory
from tests.serving.fuzzing import oracle

ROOT = Path(__file__).parents[2]
INPUTS, TIMEOUT_S = 20_000, 600


@pytest.mark.slow
def test_every_input_gets_a_well_formed_response(tmp_path_factory):
    export = table_factory.trained_run(tmp_path_factory)[0] / "export"
    last_input = tmp_path_factory.mktemp("fuzz") / "last"
    command = [sys.executable, "-m", "tests.serving.fuzzing"]
    command += ["--inputs", str(INPUTS), "--export", str(export)]
    process = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "FUZZING_LAST_INPUT": str(last_input)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    text = f"{process.stdout[-6000:]}\n{process.stderr[-3000:]}"
    assert process.returncode == 0, (
        f"{text}\nLast input: {last_input.read_bytes()[:500]!r}"
    )
    total, findings = map(int, re.findall(r"(\d+) inputs, (\d+) findings", text)[0])
    assert total >= INPUTS * 0.95
    assert not findings


def test_only_documented_errors_are_accepted():
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    assert oracle.check_error("Predict", invalid, "Missing ModelSpec") is None
    assert oracle.check_error("Predict", invalid, "")
    assert oracle.check_error("Predict", invalid, "x" * 1037)
    internal = grpc.StatusCode.INTERNAL
    assert oracle.check_error("Predict", internal, "The server failed; see its log")
    assert oracle.check_error("Predict", grpc.StatusCode.UNKNOWN, "x")


def test_only_json_with_a_matching_status_is_accepted():
    json = {"content-type": "application/json"}
    assert oracle.check_http(400, json, b'{"error": "x"}') is None
    assert oracle.check_http(200, json, b'{"predictions": []}') is None
    assert oracle.check_http(500, json, b'{"error": "x"}')
    assert oracle.check_http(400, json, b'{"error": ""}')
    assert oracle.check_http(200, json, b'{"error": "x"}')
    assert oracle.check_http(200, json, b"{")
    assert oracle.check_http(200, {}, b"{}")
