import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mmkeras.environment import download


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")


def test_the_cache_is_that_of_keras(monkeypatch, tmp_path):
    (tmp_path / "source.h5").write_bytes(b"weights")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    url = (tmp_path / "source.h5").as_uri()
    # Keras reads KERAS_HOME when it is imported, by an earlier test perhaps.
    get = f"keras.utils.get_file('source.h5', {url!r}, cache_subdir='models')"
    program = [sys.executable, "-c", f"import keras; print({get})"]
    result = subprocess.run(program, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == str(download.cached_weights(url))


def test_a_download_is_possible_or_its_problem_is_named(tmp_path):
    (tmp_path / "weights.h5").touch()
    assert download.download_problem((tmp_path / "weights.h5").as_uri()) == ""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/weights.h5"
        assert "timed out" in download.download_problem(url, timeout_s=0.2)
    problem = download.download_problem(url)
    assert os.strerror(111) in problem and "<" not in problem


def test_downloads_can_be_refused_in_a_block(tmp_path):
    (tmp_path / "weights.h5").touch()
    url = (tmp_path / "weights.h5").as_uri()
    with download.offline():
        assert "not to be downloaded" in download.download_problem(url)
    assert download.download_problem(url) == ""


class Proxy(BaseHTTPRequestHandler):
    """Answers HEAD and GET with the codes in the path: /405/200."""

    def _answer(self):
        head, get = self.path.split("/")[1:]
        self.send_response(int(head if self.command == "HEAD" else get))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET = _answer

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("codes", "problem"),
    [
        ("200/500", ""),
        ("403/200", ""),
        ("405/200", ""),
        ("501/200", ""),
        ("405/403", "403"),
        ("404/200", "404"),
    ],
)
def test_a_proxy_that_refuses_head_is_asked_by_get(codes, problem):
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/{codes}"
        result = download.download_problem(url)
        server.shutdown()
    assert problem in result and bool(result) == bool(problem)
