"""No input ends the server, and each gets an answer that is well-formed.

The same program makes the long run: `python -m tests.serving.fuzzing --inputs 120000`.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from tests import table_factory
from tests.serving.fuzzing import verdict

ROOT = Path(__file__).parents[2]
INPUTS, MOST_S = 20_000, 600


@pytest.mark.e2e
def test_no_input_ends_the_server_or_gets_a_malformed_answer(tmp_path_factory):
    export = table_factory.trained_run(tmp_path_factory)[0] / "export"
    last = tmp_path_factory.mktemp("fuzz") / "last"
    command = [sys.executable, "-m", "tests.serving.fuzzing"]
    command += ["--inputs", str(INPUTS), "--export", str(export)]
    found = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "FUZZING_LAST_INPUT": str(last)},
        capture_output=True,
        text=True,
        timeout=MOST_S,
    )
    said = f"{found.stdout[-6000:]}\n{found.stderr[-3000:]}"
    assert found.returncode == 0, f"{said}\nIn work: {last.read_bytes()[:500]!r}"
    total, findings = map(int, re.findall(r"(\d+) inputs, (\d+) findings", said)[0])
    assert total >= INPUTS * 0.95
    assert not findings


def test_only_errors_that_are_documented_are_right():
    right = grpc.StatusCode.INVALID_ARGUMENT
    assert verdict.fault_of_error("Predict", right, "Missing ModelSpec") is None
    assert verdict.fault_of_error("Predict", right, "")
    assert verdict.fault_of_error("Predict", right, "x" * 1037)
    internal = grpc.StatusCode.INTERNAL
    assert verdict.fault_of_error("Predict", internal, "The server failed; see its log")
    assert verdict.fault_of_error("Predict", grpc.StatusCode.UNKNOWN, "x")


def test_only_answers_of_json_with_the_right_status_are_right():
    json = {"content-type": "application/json"}
    assert verdict.fault_of_http(400, json, b'{"error": "x"}') is None
    assert verdict.fault_of_http(200, json, b'{"predictions": []}') is None
    assert verdict.fault_of_http(500, json, b'{"error": "x"}')
    assert verdict.fault_of_http(400, json, b'{"error": ""}')
    assert verdict.fault_of_http(200, json, b'{"error": "x"}')
    assert verdict.fault_of_http(200, json, b"{")
    assert verdict.fault_of_http(200, {}, b"{}")
