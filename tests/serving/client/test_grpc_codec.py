"""gRPC responses that are unlike TensorFlow Serving's."""

import os
import subprocess
import sys

import pytest

# Prints the code of the error of each call.
CODE = """
from serving.client import grpc_codec
from serving.client.errors import PredictError
from serving.client.requests import *
spec = ModelSpec(model="m")
for call in (
    PredictCall(spec=spec, columns={"text": [b"a"]}),
    MetadataCall(spec=spec),
    ColumnsCall(spec=spec),
    ClassNamesCall(spec=spec, row={"text": b""}),
    VersionsCall(model="m"),
):
    for content in (b"\\x0b" * 200_000, b"\\x0a", b"\\xff" * 20):
        try:
            print(grpc_codec.encode(call, "t").decode(content))
        except PredictError as error:
            assert "unlike TensorFlow Serving's" in error.message
            print(error.code)
"""


@pytest.mark.parametrize("implementation", ["", "python"])
def test_nested_groups_and_broken_messages_are_an_error(implementation):
    """Only protobuf's implementation in Python parses groups by recursion."""
    variables = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    result = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ | (variables if implementation else {}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["INTERNAL"] * 15
