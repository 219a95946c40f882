import os
import socket
from urllib.error import HTTPError

import pytest

from mmkeras.environment import download


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def test_the_cache_is_that_of_keras(monkeypatch, tmp_path):
    import keras

    (tmp_path / "source.h5").write_bytes(b"weights")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    url = (tmp_path / "source.h5").as_uri()
    path = keras.utils.get_file("source.h5", url, cache_subdir="models")
    assert str(download.cached_weights(url)) == path


def test_a_download_is_possible_or_its_problem_is_named(tmp_path, monkeypatch):
    (tmp_path / "weights.h5").touch()
    assert download.download_problem((tmp_path / "weights.h5").as_uri()) == ""
    monkeypatch.setattr(download, "_HOST_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/weights.h5"
        assert "timed out" in download.download_problem(url)
    problem = download.download_problem(url)
    assert os.strerror(111) in problem and "<" not in problem

    def refuse(request, timeout):
        raise HTTPError(url, 403, "Forbidden", {}, None)

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert "403" in download.download_problem(url)
