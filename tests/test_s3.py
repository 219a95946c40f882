import os
import sys

import pytest

from mmkeras import s3
from mmkeras.files import read_remote
from tests.pipeline.s3_server import DENIED, s3_server


@pytest.fixture
def objects(monkeypatch):
    """Objects of a local server, which the client of this process uses."""
    pytest.importorskip("boto3", reason="needs the extra s3")
    with s3_server() as server:
        client = server.client()
        monkeypatch.setattr(s3, "client", lambda: client)
        # A test of the pipeline may have loaded tensorflow-io.
        schemes = "tensorflow.io.gfile.get_registered_schemes"
        monkeypatch.setattr(schemes, lambda: [])
        yield server.objects


def test_a_path_is_a_bucket_and_a_key():
    assert s3.split("s3://bucket/a/b.txt") == ("bucket", "a/b.txt")
    assert s3.split("s3://bucket") == ("bucket", "")


each = pytest.mark.parametrize("read", [s3.read, read_remote])


@each
def test_an_object_is_read(objects, read):
    objects["bucket/a/b c.txt"] = b"content"
    assert read("s3://bucket/a/b c.txt") == b"content"


@each
def test_errors_are_those_of_a_local_file(objects, read):
    errors = {"bucket/none": FileNotFoundError, f"{DENIED}/a": PermissionError}
    for path, kind in errors.items():
        with pytest.raises(kind) as error:
            read(f"s3://{path}")
        assert error.value.filename == f"s3://{path}"


def test_without_boto3_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(OSError, match=r"s3:// needs boto3: .*\[s3\]"):
        s3.read("s3://bucket/a")


def test_the_environment_configures_the_client(monkeypatch):
    pytest.importorskip("boto3", reason="needs the extra s3")
    with s3_server() as server:
        server.objects["bucket/a"] = b"1"
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        monkeypatch.setenv("AWS_REGION", "eu-central-1")
        monkeypatch.setattr(os, "getpid", lambda: 0)  # which has no client yet
        assert s3.client().meta.region_name == "eu-central-1"
        assert s3.read("s3://bucket/a") == b"1"
