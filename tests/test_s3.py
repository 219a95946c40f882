import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmkeras import s3
from tests.pipeline.s3_server import DENIED, s3_server

ROOT = Path(__file__).parents[1]


@pytest.fixture
def objects(monkeypatch):
    """Objects of a local server, which the client of this process uses."""
    pytest.importorskip("boto3", reason="needs the extra s3")
    with s3_server() as server:
        client = server.client()
        monkeypatch.setattr(s3, "client", lambda: client)
        yield server.objects


def test_a_path_is_a_bucket_and_a_key():
    assert s3.split("s3://bucket/a/b.txt") == ("bucket", "a/b.txt")
    assert s3.split("s3://bucket") == ("bucket", "")


def test_an_object_is_read(objects):
    objects["bucket/a/b c.txt"] = b"content"
    assert s3.read("s3://bucket/a/b c.txt") == b"content"


def test_errors_are_those_of_a_local_file(objects):
    errors = {"bucket/none": FileNotFoundError, f"{DENIED}/a": PermissionError}
    for path, kind in errors.items():
        with pytest.raises(kind) as error:
            s3.read(f"s3://{path}")
        assert error.value.filename == f"s3://{path}"


def test_without_boto3_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(OSError, match=r"s3:// needs boto3: .*\[s3\]"):
        s3.read("s3://bucket/a")


def test_the_environment_configures_the_client():
    pytest.importorskip("boto3", reason="needs the extra s3")
    code = "from mmkeras import s3; print(s3.client().meta.region_name, s3.read(PATH))"
    with s3_server() as server:
        server.objects["bucket/a"] = b"1"
        environment = {**server.environment, "AWS_REGION": "eu-central-1"}
        environment.pop("AWS_DEFAULT_REGION")
        result = subprocess.run(
            [sys.executable, "-c", code.replace("PATH", "'s3://bucket/a'")],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
    assert result.stdout == "eu-central-1 b'1'\n", result.stderr
