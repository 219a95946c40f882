import time
import uuid

import pytest
import tensorflow as tf

from pipeline.components import remote_sync
from pipeline.components.remote_sync import synced_folder


@pytest.fixture
def uri():
    """URI of a folder in a remote file system."""
    return f"ram://{uuid.uuid4().hex}/run"


def read(path):
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def test_a_local_folder_is_used_directly(tmp_path):
    with synced_folder(str(tmp_path / "run")) as folder:
        assert folder == tmp_path / "run" and folder.is_dir()


def test_files_are_uploaded_and_downloaded_again(uri):
    with synced_folder(uri) as folder:
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "state.json").write_text("1")
        (folder / ".lock").write_text("")
    assert read(f"{uri}/checkpoints/state.json") == b"1"
    assert not tf.io.gfile.exists(f"{uri}/.lock")
    with synced_folder(uri) as folder:
        assert (folder / "checkpoints" / "state.json").read_text() == "1"
        (folder / "checkpoints" / "state.json").unlink()
    assert not tf.io.gfile.exists(f"{uri}/checkpoints/state.json")


def test_files_of_a_failing_program_are_uploaded(uri):
    with pytest.raises(KeyError), synced_folder(uri) as folder:
        (folder / "metrics.json").write_text("{}")
        raise KeyError
    assert read(f"{uri}/metrics.json") == b"{}"


def test_files_are_uploaded_while_the_program_runs(uri):
    with synced_folder(uri, every_s=0.02) as folder:
        (folder / "last.h5").write_bytes(b"weights")
        deadline = time.monotonic() + 10
        while not tf.io.gfile.exists(f"{uri}/last.h5"):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_failed_upload_is_an_error(uri, monkeypatch):
    copy = remote_sync.fileio.copy

    def denied(source, target, overwrite=False):
        if target.endswith("model.keras"):
            raise PermissionError(target)
        copy(source, target, overwrite)

    monkeypatch.setattr(remote_sync.fileio, "copy", denied)
    with pytest.raises(PermissionError), synced_folder(uri) as folder:
        (folder / "model.keras").write_text("weights")
        (folder / "metrics.json").write_text("{}")
    assert read(f"{uri}/metrics.json") == b"{}"
