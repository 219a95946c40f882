"""Tests of TFX's fileio on s3://, against a server on loopback."""

import pytest
from tfx.dsl.io import fileio, filesystem_registry
from tfx.dsl.io.plugins.local import LocalFilesystem
from tfx.utils import io_utils

from mmkeras import s3
from pipeline.runtime.s3_filesystem import register
from tests.pipeline.s3_server import s3_server

pytest.importorskip("boto3", reason="needs the extra s3")


@pytest.fixture
def objects(monkeypatch):
    """Objects of the server, which fileio opens as s3://bucket/KEY."""
    registry = filesystem_registry.FilesystemRegistry()
    registry.register(LocalFilesystem, priority=20)
    monkeypatch.setattr(filesystem_registry, "DEFAULT_FILESYSTEM_REGISTRY", registry)
    register()
    with s3_server() as server:
        client = server.client()
        monkeypatch.setattr(s3, "client", lambda: client)
        yield server.objects


def test_files_are_written_and_read(objects):
    io_utils.write_string_file("s3://bucket/a/text.txt", "größer\n")
    assert objects == {"bucket/a/text.txt": "größer\n".encode()}
    assert io_utils.read_string_file("s3://bucket/a/text.txt") == "größer\n"
    with fileio.open("s3://bucket/a/rows.gz", "wb") as file:
        file.write(b"as it is")
    assert objects["bucket/a/rows.gz"] == b"as it is"
    with fileio.open("s3://bucket/a/rows.gz", "rb") as file:
        assert file.read() == b"as it is"


def test_a_failing_block_uploads_nothing(objects):
    with pytest.raises(KeyError), fileio.open("s3://bucket/a.txt", "w") as file:
        file.write("half")
        raise KeyError
    assert objects == {}


def test_folders_are_prefixes_of_objects(objects):
    objects |= {"bucket/m/1/a": b"1", "bucket/m/1/v/b": b"2", "bucket/m/20": b"3"}
    objects["bucket/mm/x"] = b""
    assert fileio.isdir("s3://bucket/m") and not fileio.isdir("s3://bucket/m/20")
    assert fileio.exists("s3://bucket/m/1") and fileio.exists("s3://bucket/m/20")
    assert not fileio.exists("s3://bucket/m/2")
    assert fileio.listdir("s3://bucket/m") == ["1", "20"]
    assert list(fileio.walk("s3://bucket/m")) == [
        ("s3://bucket/m", ["1"], ["20"]),
        ("s3://bucket/m/1", ["v"], ["a"]),
        ("s3://bucket/m/1/v", [], ["b"]),
    ]


def test_missing_files_and_folders_are_not_found(objects):
    for do in (fileio.open, fileio.listdir, fileio.remove, fileio.rmtree):
        with pytest.raises(fileio.NotFoundError):
            do("s3://bucket/none")
    with pytest.raises(fileio.NotFoundError):
        fileio.rename("s3://bucket/none", "s3://bucket/other")


def test_folders_are_copied_renamed_and_removed(objects, tmp_path):
    (tmp_path / "model" / "variables").mkdir(parents=True)
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "model" / "variables" / "v").write_bytes(b"weights")
    io_utils.copy_dir(str(tmp_path / "model"), "s3://bucket/.7.partial")
    fileio.rename("s3://bucket/.7.partial", "s3://bucket/7")
    assert objects == {
        "bucket/7/saved_model.pb": b"graph",
        "bucket/7/variables/v": b"weights",
    }
    with pytest.raises(OSError, match="exists"):
        fileio.rename("s3://bucket/7", "s3://bucket/7/variables")
    io_utils.copy_dir("s3://bucket/7", str(tmp_path / "back"))
    assert (tmp_path / "back" / "variables" / "v").read_bytes() == b"weights"
    fileio.copy("s3://bucket/7/variables/v", "s3://bucket/8/v")
    fileio.rmtree("s3://bucket/7")
    assert objects == {"bucket/8/v": b"weights"}
